"""Unix time that does not fall behind: within one life, time that has passed has passed.

A clock on the wall can be set back while the service runs. Spans whose end then lies in its future would be stamped
with a time of long ago, first attempts would look younger than they are, and windows would never seem to have ended.
So a reading is never less than the time at the start plus what has passed since then.

Set forward, the wall is believed: that is how a machine that woke with a slow clock is corrected, and the two cannot
be told apart. Once such a step is taken back, so is this clock, but not behind that line. What started ahead of the
time stays ahead until it is started anew; `ahead` says by how much.
"""

import sys
import time
from collections.abc import Callable

SECOND = 1_000_000_000


if sys.platform == "linux":

    def _passed() -> int:
        # Unlike the monotonic clock it goes on while the machine sleeps.
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

else:
    _passed = time.monotonic_ns


class SteadyClock:
    """Tells unix time; a service has one, so that its parts agree.

    Args:
        wall: nanoseconds since 1970, as the system has them.
        passed: nanoseconds since whenever, never set.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, passed: Callable[[], int] = _passed) -> None:
        self._wall = wall
        self._passed = passed
        self._began = wall() - passed()

    def ns(self) -> int:
        """Nanoseconds since 1970."""
        return max(self._wall(), self._began + self._passed())

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self.ns() / SECOND

    @property
    def set_by(self) -> float:
        """Seconds by which the wall was set since the start: forward above 0, back below."""
        return (self._wall() - self._began - self._passed()) / SECOND

    @property
    def ahead(self) -> float:
        """Seconds by which the wall was set back below this clock; 0 or next to it if it was not."""
        return max(self._began + self._passed() - self._wall(), 0) / SECOND
