"""The double's clock, which decides what is too old, what is forgotten, and what is visible yet."""

import time
from collections.abc import Callable


class Clock:
    """The real time, shifted forward by what a test has advanced it."""

    def __init__(self) -> None:
        self._shift = 0.0
        self.watchers: list[Callable[[], None]] = []
        """Called whenever it was advanced."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self._shift

    @property
    def advanced(self) -> float:
        """Seconds by which it was advanced."""
        return self._shift

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once.

        Raises:
            ValueError: time does not go back.
        """
        if seconds < 0:
            raise ValueError(f"a clock advances, {seconds} s would take it back")
        self._shift += seconds
        for watcher in self.watchers:
            watcher()


class ManualClock(Clock):
    """A clock that stands still until it is advanced.

    Args:
        start: seconds since 1970; the present second by default, because Stripe refuses old timestamps.
    """

    def __init__(self, start: float | None = None) -> None:
        super().__init__()
        self._start = float(int(time.time())) if start is None else float(start)

    def now(self) -> float:
        """Seconds since 1970."""
        return self._start + self._shift
