"""The steps of the hot path, one by one: microseconds of CPU time, or instructions, for each span.

    PYTHONPATH=benchmarks:tests/support .venv/bin/python benchmarks/micro.py
    PYTHONPATH=benchmarks:tests/support .venv/bin/python benchmarks/micro.py --instructions

Instructions are counted by valgrind's callgrind (which has to be installed): what else the machine does changes them
by next to nothing, so that they tell a step that became slower by a few percent. It takes some minutes.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import counted
import structlog
from hot_path import STEPS, Step, nothing
from policy_micro import SPANS

WARM, TIMED = 20, 60
"""Rounds."""
WARM_COUNTED, COUNTED = 3, 8
"""The same under callgrind."""
NOTHING = Step(nothing)


async def rounds(step: Step, number: int) -> float:
    """CPU seconds that so many rounds take, what makes them ready left out."""
    spent = 0.0
    for _ in range(number):
        await step.before()
        began = time.process_time()
        await step.work()
        spent += time.process_time() - began
    return spent


async def cpu(name: str) -> float:
    """Microseconds for each span, the least of five."""
    best = float("inf")
    for _ in range(5):
        async with STEPS[name]() as step:
            await rounds(step, WARM)
            best = min(best, await rounds(step, TIMED))
    return best / TIMED / SPANS * 1e6


async def instructions(name: str, directory: Path) -> float:
    """Instructions for each span."""
    async with STEPS[name]() as step:
        await rounds(step, WARM_COUNTED)
        total = 0
        for _ in range(COUNTED):
            await step.before()
            for counted_step, sign in ((step, 1), (NOTHING, -1)):  # less what counting itself takes
                counted.begin()
                await counted_step.work()
                total += sign * counted.end(directory)
    return total / COUNTED / SPANS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instructions", action="store_true", help="count, by callgrind, instead of timing")
    parser.add_argument("--step", choices=STEPS, action="append", help="only this one")
    parser.add_argument("--counting", type=Path, metavar="DIRECTORY", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory())
    steps = arguments.step or list(STEPS)
    if arguments.instructions:
        chosen = [part for step in steps for part in ("--step", step)]
        with tempfile.TemporaryDirectory() as directory:
            command = counted.counting(Path(directory), [__file__, "--counting", directory, *chosen])
            sys.exit(subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode)
    for name in steps:
        if arguments.counting is not None:
            number = asyncio.run(instructions(name, arguments.counting))
            print(f"{name:20}{number:12,.0f} instructions a span", flush=True)
        else:
            print(f"{name:20}{asyncio.run(cpu(name)):12.2f} us of CPU time a span", flush=True)


if __name__ == "__main__":
    main()
