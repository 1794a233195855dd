"""A token bucket: how many calls may be made now, slower for a while after the receiver said that it is too much."""

from collections.abc import Callable

_SLOWEST = 1.0
"""Calls a second that are left at least, however often the receiver refuses."""
_RECOVERY = 0.05
"""Share of the full rate that is won back for each second without a refusal."""


class Bucket:
    """Fills at `rate` a second up to `burst`, so that in no second there are more than `rate + burst`.

    Args:
        rate: calls a second.
        burst: calls that may be saved up; at least one.
        clock: monotonic seconds.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._full = rate
        self._rate = rate
        self._burst = max(1.0, burst)
        self._clock = clock
        self._tokens = self._burst
        self._last = clock()
        self._slowed = self._last

    @property
    def rate(self) -> float:
        """Calls a second at the moment."""
        self._fill()
        return self._rate

    @property
    def tokens(self) -> float:
        """Calls that may be made now; below 0 after a batch that was larger than what was saved up."""
        self._fill()
        return self._tokens

    def missing(self, tokens: float = 1.0) -> float:
        """Seconds until so many, or a full bucket, are there; 0 if they are."""
        self._fill()
        short = min(tokens, self._room()) - self._tokens
        return 0.0 if short <= 1e-9 else short / self._rate

    def spend(self, tokens: float = 1.0) -> None:
        """Take so many. Those that are not there are a debt, paid before the next."""
        self._fill()
        self._tokens -= tokens

    def slow_down(self) -> None:
        """The receiver said that it is too much: half as fast. Many refusals of one moment count once."""
        now = self._clock()
        if now - self._slowed > 1 or self._rate == self._full:
            self._rate = max(min(_SLOWEST, self._full), self._rate / 2)
            self._slowed = now
            self._tokens = min(self._tokens, 1.0)

    def _room(self) -> float:
        """What may be saved up, which shrinks with the rate."""
        return max(1.0, self._burst * self._rate / self._full)

    def _fill(self) -> None:
        now = self._clock()
        elapsed, self._last = max(now - self._last, 0.0), now
        if self._rate < self._full and now - self._slowed > 1:
            self._rate = min(self._full, self._rate + self._full * _RECOVERY * elapsed)
        self._tokens = min(self._room(), self._tokens + elapsed * self._rate)
