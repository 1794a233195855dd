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

    def first(number: signal.Signals) -> None:
        _log.info("stopping", signal=number.name)
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            # Not through the event loop, which may be what hangs.
            signal.signal(each, _second)
        stopping.set()

    for each in SIGNALS:
        loop.add_signal_handler(each, first, each)
    return stopping


def _second(_number: int, _frame: FrameType | None) -> NoReturn:
    leave_now("stopped at once by a second signal")


def leave_now(why: str) -> NoReturn:
    """End the process without any further step."""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"otel-usageflow: {why}\n".encode())
    os._exit(FAILED)
