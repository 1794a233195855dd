"""A sender on a real ledger, with all that it sees of the world in a test's hand: clocks, receiver, rules, pace."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from billing import SECOND
from ledgers import Book

from otel_usageflow.delivery.batches import Batch
from otel_usageflow.delivery.limits import Limits
from otel_usageflow.delivery.pace import Pace
from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.delivery.sender import Sender
from otel_usageflow.delivery.setting import Delivery
from otel_usageflow.ledger.freeze import FreezeRules, Lane
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Outcome

NOON = 1_700_000_000 - 1_700_000_000 % 60
FAST = Backoff(0.001, 1.0, 0.0, 0.001)


@dataclass
class World:
    """What the sender sees of the world. `wall` and `passed` stand still unless a test moves them."""

    book: Book
    answer: Callable[[MeterEvent], Outcome] = lambda _event: Accepted()
    wall: float = NOON + 70.0
    passed: float = 0.0
    calls: float = 100_000
    backoff: Backoff = FAST
    paces: dict[str, Pace] = field(default_factory=dict)
    sent: list[MeterEvent] = field(default_factory=list)
    under_way: Counter[Lane] = field(default_factory=Counter)
    together: int = 0
    """The most attempts of one lane at a time."""
    sender: Sender = field(init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        delivery = Delivery(
            send=self._send,
            rules=lambda busy: FreezeRules(
                self.wall, 60, False, self.book.meters, {("", "account_id"), ("acct_2", "account_id")}, busy
            ),
            refused=lambda _event, _outcome: None,
            backoff=self.backoff,
            pace=self.pace,
            window=10,
            wall=SteadyClock(lambda: int(self.wall * SECOND), lambda: int(self.passed * SECOND)),
        )
        self.sender = Sender(self.book.ledger, delivery)

    def pace(self, account: str) -> Pace:
        """The pace of an account."""
        return self.paces.setdefault(account, Pace(Limits.exactly(self.calls)))

    async def _send(self, batch: Batch) -> Outcome:
        (event,) = batch.events
        self.under_way[event.lane] += 1
        self.together = max(self.together, self.under_way[event.lane])
        await asyncio.sleep(0)
        self.under_way[event.lane] -= 1
        self.sent.append(event)
        self._changed.set()
        return self.answer(event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the sender run for the length of a block; an error of its own fails the test."""
        task = asyncio.create_task(self.sender.run())
        try:
            yield
        finally:
            self.sender.stop()
            async with asyncio.timeout(10):
                await task

    async def until(self, condition: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait until something has become so; asked again after every attempt."""
        async with asyncio.timeout(10):
            while True:
                so = condition()
                if so if isinstance(so, bool) else await so:
                    return
                self._changed.clear()
                self.sender.wake()
                await asyncio.wait({asyncio.ensure_future(self._changed.wait())}, timeout=0.02)

    async def settled(self) -> bool:
        """Whether nothing waits for an answer."""
        return not await self.book.ledger.unsettled(0, 1)
