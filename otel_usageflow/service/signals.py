"""SIGTERM and SIGINT: the first asks to stop, the second ends the process at once. SIGHUP asks to reload."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import structlog

SIGNALS = (signal.SIGTERM, signal.SIGINT)
FAILED = 2
"""The exit status of a process that did not get to the end of its drain."""

_log = structlog.get_logger(__name__)


def stop_on_signals() -> asyncio.Event:
    """An event that the first signal sets. Everything acknowledged is durable, so the second may kill."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def stop(name: str) -> None:
        _log.info("stopping", signal=name)
        stopping.set()

    # Handlers of the process and not of the event loop, which may be what hangs when the second signal comes.
    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1 or loop.is_closed():
            leave_now("stopped at once by a second signal")
        loop.call_soon_threadsafe(stop, signal.Signals(number).name)

    for each in SIGNALS:
        signal.signal(each, handle)
    return stopping


class Hangups:
    """SIGHUP, from the moment this is made: it never ends the process, and none is lost that comes too early.

    Systems without that signal never send it.
    """

    def __init__(self) -> None:
        self._early = False
        self._heard: Callable[[], None] | None = None
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._handle)

    def listen(self, heard: Callable[[], None]) -> None:
        """Call this in the running event loop, once for each signal from now on, and once for all from before."""
        loop = asyncio.get_running_loop()
        self._heard = lambda: None if loop.is_closed() else _soon(loop, heard)
        if self._early:
            self._early = False
            heard()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._heard is None:
            self._early = True
        else:
            self._heard()


def _soon(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(what)


def leave_now(why: str) -> NoReturn:
    """End the process without any further step."""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"otel-usageflow: {why}\n".encode())
    os._exit(FAILED)
