"""Token buckets: how many calls a second an account may make (docs.stripe.com/rate-limits)."""

import time
from collections.abc import Callable
from enum import Enum

from otel_usageflow.testing.stripe.failures import rate_limited
from otel_usageflow.testing.stripe.settings import Settings


class Bucket:
    """Holds one second's worth, and fills at `rate` per second."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._at = 0.0

    def take(self, rate: float, now: float) -> bool:
        """Take one token, if there is one."""
        size = max(rate, 1.0)
        filled = size if self._tokens is None else min(size, self._tokens + (now - self._at) * rate)
        self._at = now
        self._tokens = filled - 1 if filled >= 1 else filled
        return filled >= 1


class Limit(Enum):
    """Which bucket an endpoint takes from."""

    BASIC = "basic"
    METER_EVENTS = "meter_events"
    STREAM = "stream"
    SEARCH = "search"


class Limiter:
    """The buckets of one account.

    Args:
        settings: read at every call, so that a test can change the limits.
        connected: calls act for a connected account, whose meter events count as basic.
    """

    def __init__(self, settings: Settings, connected: bool, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._connected, self._monotonic = settings, connected, monotonic
        self._buckets = {limit: Bucket() for limit in Limit}

    def admit(self, limit: Limit) -> None:
        """Let a call through.

        Raises:
            StripeFailure: 429 with its reason.
        """
        if limit is Limit.METER_EVENTS and self._connected:
            limit = Limit.BASIC
        if self._settings.limits.all_basic and limit in (Limit.METER_EVENTS, Limit.STREAM):
            limit = Limit.BASIC
        self._take(limit)
        if limit is Limit.SEARCH:
            self._take(Limit.BASIC)

    def _take(self, limit: Limit) -> None:
        rate: float | None = getattr(self._settings.limits, limit.value)
        if rate is not None and not self._buckets[limit].take(rate, self._monotonic()):
            raise rate_limited("endpoint-rate" if limit is not Limit.BASIC else "global-rate")
