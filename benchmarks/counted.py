"""Counting instructions by valgrind's callgrind, from within the process that it watches."""

import os
import re
import subprocess
import sys
from pathlib import Path


def counting(directory: Path, program: list[str]) -> list[str]:
    """The command that runs a Python program under callgrind, which counts nothing yet."""
    out = directory / "callgrind.out"
    return [
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        f"--callgrind-out-file={out}",
        sys.executable,
        *program,
    ]


def begin() -> None:
    """Count from here on."""
    _control("--instr=on")
    _control("--zero")


def end(directory: Path) -> int:
    """The instructions of all threads since `begin`; some 400,000 are of the two calls themselves."""
    before = set(directory.glob("callgrind.out.*"))
    _control("--dump")
    (dump,) = set(directory.glob("callgrind.out.*")) - before
    found = re.search(r"^summary: (\d+)", dump.read_text(), re.MULTILINE)
    assert found is not None, dump
    return int(found[1])


def _control(option: str) -> None:
    subprocess.run(["callgrind_control", option, str(os.getpid())], check=True, capture_output=True)
