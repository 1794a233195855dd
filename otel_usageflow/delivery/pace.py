"""Pacing: no more calls a second than the receiver takes, and fewer for a while after it said no."""

import asyncio
import time
from collections.abc import Callable

_SLOWEST = 1.0
_RECOVERY = 0.05
"""Share of the full rate that is won back for each second without a refusal."""


class Pace:
    """A token bucket that halves its rate when told so, and then wins it back steadily.

    Args:
        rate: calls a second at most.
        clock: monotonic seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._full = rate
        self._rate = rate
        self._clock = clock
        self._tokens = max(1.0, rate / 10)
        self._last = clock()
        self._slowed = self._last
        self._turn = asyncio.Lock()

    @property
    def rate(self) -> float:
        """Calls a second at the moment."""
        return self._rate

    async def take(self) -> None:
        """Wait for one's turn; first come, first served."""
        async with self._turn:
            while (wait := self._missing()) > 0:  # noqa: ASYNC110  (time brings tokens; nobody signals them)
                await asyncio.sleep(wait)
            self._tokens -= 1

    def slow_down(self) -> None:
        """The receiver said that it is too much. Many refusals of one moment count once."""
        now = self._clock()
        if now - self._slowed > 1 or self._rate == self._full:
            self._rate = max(min(_SLOWEST, self._full), self._rate / 2)
            self._slowed = now
            self._tokens = min(self._tokens, 1.0)

    def _missing(self) -> float:
        """Seconds until there is a token; 0 if there is one."""
        now = self._clock()
        elapsed, self._last = now - self._last, now
        if self._rate < self._full and now - self._slowed > 1:
            self._rate = min(self._full, self._rate + self._full * _RECOVERY * elapsed)
        # A tenth of a second's worth may be saved up: enough to be smooth, too little for a burst.
        self._tokens = min(max(1.0, self._rate / 10), self._tokens + elapsed * self._rate)
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._rate
