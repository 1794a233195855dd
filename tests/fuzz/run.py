"""Fuzz decoding and policies for a while: `make fuzz`, or `make fuzz ARGS="--seconds 600"`.

Each subject of tests/support/fuzz_subjects.py runs under atheris in a process of its own, from the captures of
tests/captures as seeds. What libFuzzer learns stays in a scratch directory that is removed; an input that breaks a
subject is kept under .fuzz/, and is printed with the command that tries it again. Exit status: 0 nothing broke, 1
something did.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from fuzz_seeds import seeds  # noqa: E402
from fuzz_subjects import SUBJECTS  # noqa: E402

LONGEST = 16_384
"""Bytes of an input."""
PATIENCE = 20
"""Seconds that one input may take, and MEMORY the MiB that the process may: what needs more counts as broken."""
MEMORY = 2_048


class Outcome(NamedTuple):
    """What a subject did."""

    broke: bool
    executions: int
    seconds: int
    said: str


def main() -> int:
    """Run every subject, or those that are named, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for all subjects together; default: 60")
    parser.add_argument("--again", type=Path, metavar="FILE", help="try one input again with the subject named")
    arguments = parser.parse_args()
    chosen = arguments.subjects or list(SUBJECTS)
    if unknown := set(chosen) - SUBJECTS.keys():
        parser.error(f"no subject {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}")
    if arguments.again is not None:
        for name in chosen:
            SUBJECTS[name](arguments.again.read_bytes())
        return 0
    return max([_report(name, _fuzz(name, max(1, arguments.seconds // len(chosen)))) for name in chosen])


def _fuzz(name: str, seconds: int) -> Outcome:
    kept = ROOT / ".fuzz"
    kept.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for index, seed in enumerate(seeds(name, LONGEST)):
            Path(scratch, f"seed-{index}").write_bytes(seed)
        options = {
            "max_total_time": seconds,
            "max_len": LONGEST,
            "timeout": PATIENCE,
            "rss_limit_mb": MEMORY,
            "print_final_stats": 1,
            "artifact_prefix": f"{kept}/{name}-",
        }
        made = subprocess.run(
            [sys.executable, HERE / "target.py", name, scratch, *(f"-{key}={one}" for key, one in options.items())],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = made.stdout.decode(errors="replace")
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    took = re.search(r"Done \d+ (?:runs )?in (\d+) second", said)
    return Outcome(made.returncode != 0, int(executed[1]) if executed else 0, int(took[1]) if took else seconds, said)


def _report(name: str, outcome: Outcome) -> int:
    if outcome.broke:
        found = re.search(r"Test unit written to (\S+)", outcome.said)
        again = f"\ntry it again: make fuzz ARGS='{name} --again {found[1]}'" if found else ""
        sys.stdout.write(f"{outcome.said[-4000:]}\n{name}: BROKE{again}\n")
    else:
        sys.stdout.write(f"{name}: {outcome.executions:,} executions in {outcome.seconds} s, nothing broke\n")
    sys.stdout.flush()
    return int(outcome.broke)


if __name__ == "__main__":
    sys.exit(main())
