"""What Stripe has counted, read back from the summaries of a meter: at a pace that leaves room for other reads.

Reads have an allocation of their own, at least 10,000 a month and account (guide: rate limits), which all programs
of an account share. So there are few a second, and few an hour however much there is to compare.
"""

import asyncio
import time
from collections.abc import Callable

from otel_usageflow.exporters.stripe_meter.api import Grouping, StripeApi, Summary
from otel_usageflow.exporters.stripe_meter.customer_pages import PAGE
from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM

READS_PER_SECOND = RHYTHM.reads_per_second
READS_PER_HOUR = RHYTHM.reads_per_hour
_UNIT = {None: 60, "hour": 3_600, "day": 86_400}


class ReadPace:
    """At most so many reads a second, and in the long run so many an hour; an hour's worth may be used at once.

    Args:
        clock: monotonic seconds.
    """

    def __init__(
        self,
        per_second: float = READS_PER_SECOND,
        per_hour: float = READS_PER_HOUR,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._spacing = 1 / per_second
        self._per_hour = per_hour
        self._clock = clock
        self._left = per_hour
        self._last = clock()
        self._next = self._last
        self._turn = asyncio.Lock()

    def another(self) -> "ReadPace":
        """The same for another account, none of it used."""
        return ReadPace(self._per_second, self._per_hour, self._clock)

    async def take(self) -> None:
        """Wait for one's turn; first come, first served."""
        async with self._turn:
            while (wait := self.missing()) > 0:  # noqa: ASYNC110  (time brings turns; nobody signals them)
                await asyncio.sleep(wait)
            self._left -= 1
            self._next = self._clock() + self._spacing

    def missing(self) -> float:
        """Seconds until there may be a read; 0 if now."""
        now = self._clock()
        elapsed, self._last = now - self._last, now
        self._left = min(self._per_hour, self._left + elapsed * self._per_hour / 3_600)
        until_refilled = 0.0 if self._left >= 1 else (1 - self._left) * 3_600 / self._per_hour
        return max(self._next - now, until_refilled, 0.0)


class Summaries:
    """Reads summaries; everybody in one exporter shares the pace of an account, which has an allocation of its own.

    Args:
        pace: as it is for each account.
    """

    def __init__(self, api: StripeApi, pace: ReadPace | None = None) -> None:
        self._api = api
        self._pace = pace or ReadPace()
        self._paces: dict[str, ReadPace] = {}

    async def summaries(
        self, account: str, meter_id: str, customer: str, start: int, end: int, grouping: Grouping | None = None
    ) -> list[Summary]:
        """What a customer used under a meter, by hour, by day or as a whole, in the order of time.

        Bounds are unix seconds, `end` exclusive. They must be multiples of 60, or of 3,600 or 86,400 with a
        grouping; windows in which nothing was used may be missing from the answer.

        Raises:
            StripeFailure: they could not be read.
        """
        if start % _UNIT[grouping] or end % _UNIT[grouping] or end <= start:
            raise ValueError(f"summaries by {grouping or 'minute'} cannot be read from {start} to {end}")
        found: list[Summary] = []
        pace = self._paces.setdefault(account, self._pace.another())
        await pace.take()
        async for page in self._api.summaries(account, meter_id, customer, start, end, grouping):
            found.extend(page)
            if len(page) == PAGE:  # another one may follow, which is another read
                await pace.take()
        return sorted(found, key=lambda summary: summary.start)
