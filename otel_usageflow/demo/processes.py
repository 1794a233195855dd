"""The demo's processes: each a real one, with a log of its own, and none left behind."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from otel_usageflow.errors import StartError

STARTING = 30.0  # seconds
STOPPING = 15.0  # seconds
_UNWANTED = ("OTEL_", "STRIPE_", "USAGEFLOW_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would change the demo, or let it reach out: settings, keys and proxies."""
    kept = {name: value for name, value in environment.items() if not name.startswith(_UNWANTED)}
    return {name: value for name, value in kept.items() if name.lower() not in _PROXIES}


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """One process: a module of this package, run by this Python.

    Args:
        name: for messages.
        log: what it writes to standard error goes there.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def line(self) -> str:
        """The next line of its standard output, empty at the end."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().rstrip("\n")

    async def first_line(self) -> str:
        """The line that says that it is ready.

        Raises:
            StartError: it ended, or said nothing for too long.
        """
        try:
            line = await asyncio.wait_for(self.line(), STARTING)
        except TimeoutError:
            line = ""
        if not line:
            raise self.failed_to_start()
        return line

    def failed_to_start(self) -> StartError:
        """The error to raise, with the end of the log."""
        said = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        end = "\n".join(f"  {line}" for line in said[-8:])
        return StartError(f"{self.name} of the demo did not start; the end of {self.log}:\n{end or '  (empty)'}")

    async def result(self) -> tuple[int, str]:
        """Its exit status and everything that it printed, once it has ended by itself."""
        assert self._process.stdout is not None
        said = (await self._process.stdout.read()).decode()
        return await self._process.wait(), said

    async def stop(self) -> int:
        """End it with SIGTERM, and with SIGKILL if that takes too long; its exit status."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self._process.wait(), STOPPING)
        return await self.kill()

    async def kill(self) -> int:
        """End it with SIGKILL, as a crash would."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        return await self._process.wait()


class Household:
    """Starts processes, and knows all that run."""

    def __init__(self, leash: asyncio.subprocess.Process) -> None:
        self._leash = leash
        self._children: list[Child] = []

    async def start(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start `python -m MODULE ARGUMENTS` away from the terminal, so that Ctrl-C reaches the demo alone."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**clean_environment(os.environ), **(environment or {})},
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        self._tell_leash(f"+{child.pid}")
        return child

    async def end(self, child: Child, *, crash: bool = False) -> int:
        """Stop a process, or kill it; its exit status."""
        status = await (child.kill() if crash else child.stop())
        self._tell_leash(f"-{child.pid}")
        return status

    async def end_all(self) -> None:
        """Kill what still runs."""
        await asyncio.gather(*(self.end(child, crash=True) for child in self._children))

    def _tell_leash(self, line: str) -> None:
        assert self._leash.stdin is not None
        if self._leash.returncode is None:
            self._leash.stdin.write(f"{line}\n".encode())


@asynccontextmanager
async def household() -> AsyncIterator[Household]:
    """A place for processes that all have ended when it is left, or when this process dies."""
    leash = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "otel_usageflow.demo.leash"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    home = Household(leash)
    try:
        yield home
    finally:
        await home.end_all()
        assert leash.stdin is not None
        leash.stdin.close()
        await leash.wait()
