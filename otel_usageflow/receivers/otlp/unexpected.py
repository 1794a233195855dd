"""What the log gets to see of errors that are ours: one line now and then, not one a request.

A broken disk or a bug fails every request alike, and a traceback can cost more than the request did.
"""

import time
from collections.abc import Callable

import structlog

_EVERY = 10.0  # seconds between two lines of one receiver

_log = structlog.get_logger()


class UnexpectedErrors:
    """Logs errors that a consumer should not have raised."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._next = float("-inf")
        self._unsaid = 0

    def report(self, error: Exception) -> None:
        """Log the error with its traceback, or count it if the last line is not long ago."""
        now = self._clock()
        if now < self._next:
            self._unsaid += 1
            return
        _log.error("cannot take a request", receiver=self._path, not_logged_before=self._unsaid, exc_info=error)
        self._next, self._unsaid = now + _EVERY, 0
