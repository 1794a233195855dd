"""The pace of one account: what is sent and what is read, below what its receiver takes, and slower when told so.

Sends and reads that come out of one budget wait in two rows. Sends go first, but every fifth call is a read while one
waits, so that neither a backlog keeps the exporter from learning of new customers, nor a long listing usage from
being billed.
"""

import asyncio
import time
from collections.abc import Callable

from otel_usageflow.delivery.bucket import Bucket
from otel_usageflow.delivery.limits import BURST, RATE, SEND_BURST, Limits
from otel_usageflow.model.outcome import TooFast

SEARCH = "search"
"""The endpoint that has a limit of its own within the basic one."""

_READ_SHARE = 0.2
"""Of a budget that sends and reads share, while both wait."""
_AHEAD = 0.02
"""Seconds by which sends may be begun before there are tokens for them: as long as a commit takes."""
_FIRST_PLACES = 64
_MOST_PLACES = 256
"""Sends in flight. No number is documented, so there are more only where nobody objects."""
_PLACES_A_SECOND = 2.0
"""Places won back in a second without a refusal for their number."""


class Pace:
    """When one account may be called.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._basic = self._bucket(limits.basic)
        self._own = None if limits.sends is None else self._bucket(limits.sends, SEND_BURST)
        self._endpoints: dict[str, Bucket] = {}
        self._rows: dict[str, asyncio.Lock] = {}
        self._sending = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._owed = 0.0
        """Reads that sends have gone before."""
        self._begun = 0
        """Sends that began and have not had their turn."""
        self._places = float(_FIRST_PLACES)
        self._most_places = float(_MOST_PLACES)
        self._crowded = self._counted = clock()
        self.reads = 0
        """Reads since the start: they have an allocation (docs.stripe.com/rate-limits)."""
        self.refusals: dict[TooFast, int] = {}
        """How often the account said that it is too much, by reason."""

    @property
    def rate(self) -> float:
        """Sends a second at the moment: calls, or events where those are counted."""
        return self._sends.rate

    @property
    def places(self) -> int:
        """How many sends may be in flight."""
        now = self._clock()
        if now - self._crowded > 1:
            self._most_places = min(_MOST_PLACES, self._most_places + (now - self._counted) * _PLACES_A_SECOND)
        self._counted = now
        return int(min(self._places, self._most_places))

    def room(self, in_flight: int, most: int = 1) -> int:
        """How many events may begin now, `most` in a call, when so many calls are in flight.

        If only places are short, there is one more.
        """
        turns = int(self._sends.tokens + self._sends.rate * _AHEAD) - self._begun
        if not self._limits.by_event:
            turns *= most
        if in_flight == 0 and self._begun == 0:
            turns = max(turns, most)  # they may as well wait for their tokens after their commit
        free = (self.places - in_flight) * most
        if turns > 0 and free <= 0:
            self._places = min(self._places + 1, _MOST_PLACES)
        return max(min(turns, free), 0)

    def opens_in(self) -> float:
        """Seconds until there are tokens for one more send than have begun."""
        return max(self._sends.missing(self._begun + 1.0) - _AHEAD, 0.0)

    def begin(self, events: int = 1) -> None:
        """A send of so many events begins, and will `take`."""
        self._begun += self._tokens(events)

    def _tokens(self, events: int) -> int:
        return events if self._limits.by_event else 1

    async def take(self, events: int = 1) -> None:
        """Wait for the turn of a send that began; first come, first served. It has so many events."""
        try:
            tokens = float(self._tokens(events))
            async with self._sending:
                if self._own is not None:
                    await _until(self._own.missing, tokens)
                    self._own.spend(tokens)
                    return
                # Time brings tokens; nobody signals them.
                while wait := self._basic.missing(tokens) or self._yields():  # noqa: ASYNC110
                    await asyncio.sleep(wait)
                self._basic.spend(tokens)
                if self._reading.locked():
                    self._owed += _READ_SHARE / (1 - _READ_SHARE)
        finally:
            self._begun = max(self._begun - self._tokens(events), 0)

    async def read(self, endpoint: str, *, counts: bool = True) -> None:
        """Wait for the turn of one call that is no send. `counts`: it comes out of the allocation of reads."""
        bucket = self._endpoint(endpoint)
        async with self._rows[endpoint]:
            await _until(bucket.missing, 1.0)
            async with self._reading:
                while wait := self._basic.missing() or self._waits():  # noqa: ASYNC110
                    await asyncio.sleep(wait)
                self._basic.spend()
                self._owed = max(self._owed - 1, 0.0) if self._shared else 0.0
            bucket.spend()
        self.reads += counts

    def refused(self, why: TooFast, endpoint: str | None = None) -> None:
        """The account said that it is too much, of a send, or of another endpoint.

        Of one resource (`TooFast.RESOURCE`) nothing follows for others.
        """
        self.refusals[why] = self.refusals.get(why, 0) + 1
        match why:
            case TooFast.ENDPOINT_RATE:
                (self._sends if endpoint is None else self._endpoint(endpoint)).slow_down()
            case TooFast.GLOBAL_RATE:
                self._basic.slow_down()
            case TooFast.GLOBAL_CONCURRENCY | TooFast.ENDPOINT_CONCURRENCY:
                self._fewer_places()
            case TooFast.UNSAID:
                self._basic.slow_down()
                if endpoint is None:
                    self._sends.slow_down()
                    self._fewer_places()
                else:
                    self._endpoint(endpoint).slow_down()

    @property
    def _sends(self) -> Bucket:
        return self._basic if self._own is None else self._own

    @property
    def _shared(self) -> bool:
        """Whether sends wait for the budget of reads."""
        return self._own is None and self._sending.locked()

    def _yields(self) -> float:
        """Seconds that a send leaves to a read whose turn has come."""
        return 1 / self._basic.rate if self._owed >= 1 and self._reading.locked() else 0.0

    def _waits(self) -> float:
        """Seconds that a read leaves to sends that wait."""
        return 0.5 / self._basic.rate if self._shared and self._owed < 1 else 0.0

    def _fewer_places(self) -> None:
        now = self._clock()
        if now - self._crowded > 1 or self._most_places == _MOST_PLACES:
            self._most_places = max(1.0, self.places / 2)
            self._crowded = now

    def _endpoint(self, endpoint: str) -> Bucket:
        if endpoint not in self._endpoints:
            self._endpoints[endpoint] = self._bucket(
                self._limits.search if endpoint == SEARCH else self._limits.endpoint
            )
            self._rows[endpoint] = asyncio.Lock()
        return self._endpoints[endpoint]

    def _bucket(self, limit: float, burst: float = BURST) -> Bucket:
        return Bucket(limit * RATE, limit * burst, self._clock)


async def _until(missing: Callable[[float], float], tokens: float) -> None:
    while (wait := missing(tokens)) > 0:  # noqa: ASYNC110
        await asyncio.sleep(wait)
