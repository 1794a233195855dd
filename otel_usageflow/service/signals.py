"""SIGTERM and SIGINT: the first asks to stop, the second ends the process at once."""

import asyncio
import contextlib
import os
import signal
import sys
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


def leave_now(why: str) -> NoReturn:
    """End the process without any further step."""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"otel-usageflow: {why}\n".encode())
    os._exit(FAILED)
