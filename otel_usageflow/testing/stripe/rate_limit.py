"""Token buckets: how many calls a second an account may make (docs.stripe.com/rate-limits)."""

import time
from collections.abc import Callable, Hashable
from enum import Enum

from otel_usageflow.testing.stripe.failures import rate_limited
from otel_usageflow.testing.stripe.settings import Settings


class Bucket:
    """Holds one second's worth, and fills at `rate` per second."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._at = 0.0

    def take(self, rate: float, now: float, tokens: int = 1) -> bool:
        """Take tokens, if there are as many."""
        size = max(rate, 1.0)
        filled = size if self._tokens is None else min(size, self._tokens + (now - self._at) * rate)
        self._at = now
        self._tokens = filled - tokens if filled >= tokens else filled
        return filled >= tokens


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
        self._by_endpoint: dict[Hashable, Bucket] = {}
        self._stream_events = Bucket()

    def admit_events(self, count: int) -> None:
        """Let the events of one call of the stream through.

        Raises:
            StripeFailure: 429 with its reason.
        """
        rate = self._settings.limits.stream_events
        if rate is not None and not self._stream_events.take(rate, self._monotonic(), count):
            raise rate_limited("endpoint-rate")

    def admit(self, limit: Limit, endpoint: Hashable = None) -> None:
        """Let a call through.

        Args:
            endpoint: what the limit of each endpoint counts by.

        Raises:
            StripeFailure: 429 with its reason.
        """
        if limit is Limit.METER_EVENTS and self._connected:
            limit = Limit.BASIC
        if self._settings.limits.all_basic and limit in (Limit.METER_EVENTS, Limit.STREAM):
            limit = Limit.BASIC
        rate = self._settings.limits.endpoint
        if rate is not None and limit in (Limit.BASIC, Limit.SEARCH):
            bucket = self._by_endpoint.setdefault(endpoint, Bucket())
            if not bucket.take(rate, self._monotonic()):
                raise rate_limited("endpoint-rate")
        self._take(limit)
        if limit is Limit.SEARCH:
            self._take(Limit.BASIC)

    def _take(self, limit: Limit) -> None:
        rate: float | None = getattr(self._settings.limits, limit.value)
        if rate is not None and not self._buckets[limit].take(rate, self._monotonic()):
            raise rate_limited("endpoint-rate" if limit is not Limit.BASIC else "global-rate")
