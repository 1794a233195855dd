"""The sender on a real ledger, with a receiver that takes many events a call."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from billing import batch, record
from ledgers import METER, Book, book
from looking_back import rows, states

from otel_usageflow.delivery.batches import BATCH, SINGLE, Batch
from otel_usageflow.delivery.limits import Limits
from otel_usageflow.delivery.pace import Pace
from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.delivery.sender import Sender
from otel_usageflow.delivery.setting import Delivery
from otel_usageflow.ledger.freeze import Formula, FreezeRules
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.outcome import Accepted, Outcome, Refused, Retry
from otel_usageflow.model.usage import Reason

NOON = 1_700_000_000 - 1_700_000_000 % 60
SECOND = 1_000_000_000


@dataclass
class Receiver:
    """A receiver of up to `most` events a call, which answers as the test says; time stands at `wall`."""

    book: Book
    answer: Callable[[Batch], Outcome] = lambda _batch: Accepted()
    most: int = 100
    wall: float = NOON + 70.0
    hold: asyncio.Event | None = None
    """Calls wait for it."""
    calls: list[Batch] = field(default_factory=list)
    lanes: list[object] = field(default_factory=list)
    sender: Sender = field(init=False)

    def __post_init__(self) -> None:
        pace = Pace(Limits.exactly(100_000))
        delivery = Delivery(
            send=self._send,
            rules=lambda busy: FreezeRules(self.wall, 60, False, {METER: Formula.SUM}, {("", "account_id")}, busy),
            refused=lambda _event, _outcome: None,
            backoff=Backoff(0.001, 1.0, 0.0, 0.001),
            pace=lambda _account: pace,
            window=10,
            most=self.most,
            wall=SteadyClock(lambda: int(self.wall * SECOND), lambda: 0),
        )
        self.sender = Sender(self.book.ledger, delivery)

    async def _send(self, call: Batch) -> Outcome:
        assert not set(self.lanes) & {event.lane for event in call.events}, "one event of a lane is under way"
        self.lanes.extend(event.lane for event in call.events)
        self.calls.append(call)
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(0)
        self.lanes = [lane for lane in self.lanes if lane not in {event.lane for event in call.events}]
        return self.answer(call)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the sender run for the length of a block."""
        task = asyncio.create_task(self.sender.run())
        try:
            yield
        finally:
            self.sender.stop()
            if self.hold is not None:
                self.hold.set()
            async with asyncio.timeout(10):
                await task

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something has become so."""
        async with asyncio.timeout(20):
            while not condition():
                self.sender.wake()
                await asyncio.sleep(0.01)


async def _usage(open_book: Book, users: Sequence[int], at: float = NOON) -> None:
    everybody = {f"u{n}": f"cus_{n}" for n in range(400)}
    await open_book.list_customers(everybody)
    await open_book.commit(batch(*(record(f"u{n}", at=at) for n in users)), NOON)


async def test_a_backlog_goes_in_full_calls(tmp_path: Path) -> None:
    """350 customers are three full calls and one that is not, and each event is in one of them."""
    async with book(tmp_path) as open_book:
        await _usage(open_book, range(350))
        receiver = Receiver(open_book)
        async with receiver.running():
            await receiver.until(lambda: states(tmp_path) == ["ACCEPTED"] * 350)
        assert sorted(len(call.events) for call in receiver.calls) == [50, 100, 100, 100]
        assert len({call.key for call in receiver.calls}) == 4
        assert receiver.sender.calls[BATCH].events == 350
        assert receiver.sender.calls[SINGLE].calls == 0


async def test_a_refused_call_is_made_event_by_event(tmp_path: Path) -> None:
    """The one that is refused alone is kept; the others are accepted; nothing is uncertain meanwhile."""

    def answer(call: Batch) -> Outcome:
        bad = any(event.customer == "cus_7" for event in call.events)
        return Refused(Reason.REJECTED, "no") if bad else Accepted()

    async with book(tmp_path) as open_book:
        await _usage(open_book, range(20))
        receiver = Receiver(open_book, answer)
        async with receiver.running():
            await receiver.until(lambda: sorted(states(tmp_path)) == ["ACCEPTED"] * 19 + ["REFUSED"])
        assert sorted(len(call.events) for call in receiver.calls) == [1] * 20 + [20]
        assert all(call.key for call in receiver.calls)
        assert rows(tmp_path, "SELECT customer FROM meter_events WHERE state = 3") == [("cus_7",)]
        assert rows(tmp_path, "SELECT sum(uncertain) FROM meter_events") == [(0,)]


async def test_a_call_that_holds_what_exists_already_is_made_event_by_event(tmp_path: Path) -> None:
    """A refusal as a duplicate says nothing about the other events of the call."""
    seen: set[str] = {"cus_3"}

    def answer(call: Batch) -> Outcome:
        known = [event for event in call.events if event.customer in seen]
        return Accepted("", duplicate=True) if known else Accepted()

    async with book(tmp_path) as open_book:
        await _usage(open_book, range(5))
        receiver = Receiver(open_book, answer)
        async with receiver.running():
            await receiver.until(lambda: states(tmp_path) == ["ACCEPTED"] * 5)
        assert rows(tmp_path, "SELECT customer FROM meter_events WHERE duplicate") == [("cus_3",)]


async def test_a_lost_answer_is_followed_by_other_calls_with_the_same_events(tmp_path: Path) -> None:
    """New keys, frozen identifiers: what recognises a resend is the event, not the call."""
    answers = [Retry("lost", uncertain=True)]

    async with book(tmp_path) as open_book:
        await _usage(open_book, range(3))
        receiver = Receiver(open_book, lambda _call: answers.pop() if answers else Accepted())
        async with receiver.running():
            await receiver.until(lambda: states(tmp_path) == ["ACCEPTED"] * 3)
        first, *others = receiver.calls
        assert first.key not in {call.key for call in others}
        resent = {event.identifier: event for call in others for event in call.events}
        assert resent.keys() == {event.identifier for event in first.events}
        assert all(event.uncertain and event.attempts == 2 for event in resent.values())


async def test_calls_that_hang_do_not_hold_up_what_comes_later(tmp_path: Path) -> None:
    """A call that is not full waits a moment for more events, not for those that are under way."""
    async with book(tmp_path) as open_book:
        receiver = Receiver(open_book, hold=asyncio.Event())
        async with receiver.running():
            for turn in range(4):
                await _usage(open_book, [turn])
                await receiver.until(lambda turn=turn: len(receiver.calls) == turn + 1)  # type: ignore[misc]
            assert states(tmp_path) == ["SENDING"] * 4


async def test_what_went_in_a_call_of_several_goes_so_again_under_the_other_way(tmp_path: Path) -> None:
    """With `most` 1, an uncertain event of a batch is sent as a batch of one; new events have calls of their own."""
    async with book(tmp_path) as open_book:
        await _usage(open_book, range(2))
        first = Receiver(open_book, lambda _call: Retry("lost", uncertain=True))
        async with first.running():
            await first.until(lambda: len(first.calls) >= 2)
    async with book(tmp_path) as open_book:
        await _usage(open_book, [5])
        second = Receiver(open_book, most=1)
        async with second.running():
            await second.until(lambda: states(tmp_path) == ["ACCEPTED"] * 3)
        by_customer = {call.events[0].customer: call.key for call in second.calls}
        assert all(len(call.events) == 1 for call in second.calls)
        assert by_customer["cus_0"].startswith("uf_b")
        assert by_customer["cus_1"].startswith("uf_b")
        assert by_customer["cus_5"] == ""
