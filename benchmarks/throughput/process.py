"""Processes under measurement: started, watched through /proc, and stopped."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

_LONGEST_LINE = 64 * 1024 * 1024
_TICKS = os.sysconf("SC_CLK_TCK")
HERE = Path(__file__).parent.parent
"""Where this package is found."""


class Watched:
    """A running process and what it has used."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._proc = Path("/proc") / str(process.pid)

    def cpu(self) -> float:
        """CPU seconds since its start, of all threads, in the kernel too."""
        return _seconds(self._proc / "stat")

    def threads(self) -> dict[int, float]:
        """The same of each thread that runs; that of the process's own number is the main thread."""
        return {int(task.name): _seconds(task / "stat") for task in (self._proc / "task").iterdir()}

    def forget_peak(self) -> None:
        """Let the peak of the memory begin anew."""
        with contextlib.suppress(OSError):
            (self._proc / "clear_refs").write_text("5")

    def peak(self) -> int:
        """Bytes that were resident at most."""
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    async def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        async with asyncio.timeout(120):
            text = await self.process.stdout.readline()
        if not text:
            raise RuntimeError("the process ended before it said anything")
        return text.decode().strip()


def _seconds(stat: Path) -> float:
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextlib.asynccontextmanager
async def started(
    command: Sequence[str], environment: Mapping[str, str] | None = None, errors: int | None = None
) -> AsyncIterator[Watched]:
    """A process that ends with the block."""
    path = {"PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=subprocess.PIPE,
        stderr=errors,
        limit=_LONGEST_LINE,
        env={**os.environ, **path, **(environment or {})},
    )
    try:
        yield Watched(process)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(15):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def python(module: str, *arguments: str) -> list[str]:
    """The command for a module."""
    return [sys.executable, "-m", module, *arguments]
