"""One subject under atheris, which sees which inputs reach new code; run.py starts it, with options of libFuzzer."""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
with atheris.instrument_imports(include=["otel_usageflow", "fuzz_spans"]):
    from fuzz_subjects import SUBJECTS


def main() -> None:
    """Fuzz the subject that the first argument names, with the other arguments for libFuzzer."""
    subject = SUBJECTS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, subject)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
