"""One attempt to send an event, and what becomes of it: written down, and the event finished or queued once more."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import structlog

from otel_usageflow.delivery.batches import BATCH, SINGLE, Batch, Calls
from otel_usageflow.delivery.gate import Gate
from otel_usageflow.delivery.lanes import Lanes
from otel_usageflow.delivery.pace import Pace
from otel_usageflow.delivery.setting import Delivery
from otel_usageflow.errors import Unavailable
from otel_usageflow.ledger.charge import IDENTIFIER_MEMORY
from otel_usageflow.ledger.identifier import next_idempotency_key
from otel_usageflow.ledger.ledger import Ledger
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Halted, Outcome, Refused, Retry

_log = structlog.get_logger(__name__)

_MEMORY_MARGIN = 900
"""Seconds before the end of Stripe's memory after which an uncertain event is no longer resent."""
_TELL_AFTER = 5
"""Attempts after which the log says that an event does not get through."""


def too_old_to_resend(event: MeterEvent, now: float) -> bool:
    """Whether a resend could be counted twice: an attempt may have been processed, and Stripe may forget it.

    A first attempt in the future means that a clock was wrong, and then nobody knows how long ago it was.
    """
    if not event.uncertain or event.first_attempt_at is None:
        return False
    age = now - event.first_attempt_at
    return not -_MEMORY_MARGIN <= age <= IDENTIFIER_MEMORY - _MEMORY_MARGIN


class Attempts:
    """Makes attempts for the sender, each account at its own pace and behind its own gate.

    Args:
        lanes: where an event goes that is to be tried again.
        stopping: whether nothing more may begin.
    """

    def __init__(self, ledger: Ledger, delivery: Delivery, lanes: Lanes, stopping: Callable[[], bool]) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._lanes = lanes
        self._stopping = stopping
        self._gates: dict[str, Gate] = {}
        self._alone: set[int] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        """Calls that wait for their turn: nothing of them was sent."""
        self.counts: Counter[str] = Counter()
        """What was done since the start: accepted, duplicate, retried, refused, set_aside."""
        self.calls = {SINGLE: Calls(), BATCH: Calls()}
        """Calls that were made since the start, by their way."""

    @property
    def gates(self) -> Iterable[Gate]:
        """Of the accounts that were heard of so far."""
        return self._gates.values()

    def gate(self, account: str) -> Gate:
        """The gate of an account."""
        if account not in self._gates:
            self._gates[account] = Gate(self._delivery.backoff, self._delivery.clock)
        return self._gates[account]

    def pace(self, account: str) -> Pace:
        """The pace of an account."""
        return self._delivery.pace(account)

    async def set_aside(self, event: MeterEvent, now: float) -> None:
        """An event of unknown outcome is not resent, because Stripe may have forgotten it."""
        await self._ledger.expire(event, now)
        self._lanes.start(event)
        self._lanes.finish(event)
        self.counts["set_aside"] += 1
        _log.error(
            "meter_event_outcome_unknown",
            identifier=event.identifier,
            event_name=event.event_name,
            remedy="none is needed: Stripe may have counted it, so it waits until the meter's summary tells",
        )

    def alone(self, event: MeterEvent) -> bool:
        """Whether an event must not share a call: one that it was in was refused, nobody knows for whose sake."""
        return event.event_id in self._alone

    async def make(self, batch: Batch) -> None:
        """Make one call, when its turn has come, and write down what came of it."""
        await self._turn(batch)
        if self._stopping():
            return
        began_at = self._delivery.clock()
        settled = await self._call(batch)
        reached("send: answered")
        await self._settle(batch, settled)
        again: list[tuple[MeterEvent, Retry | Halted]] = []
        for event, outcome in settled:
            match outcome:
                case Accepted(duplicate=duplicate):
                    self._finish(event, "duplicate" if duplicate else "accepted")
                case Refused():
                    self._finish(event, "refused")
                    self._delivery.refused(event, outcome)
                case Retry() | Halted():
                    self.counts["retried"] += 1
                    again.append((event, outcome))
        if again:
            self._try_again(again, began_at)
        elif self.gate(batch.account).succeeded():
            _log.info("stripe_reachable_again", account=batch.account or "own")

    def stop_waiting(self) -> None:
        """Give up the calls that wait for their turn; at a slow pace that can be minutes away."""
        for task in self._waiting:
            task.cancel()

    async def _turn(self, batch: Batch) -> None:
        """Wait for the turn of a call; it may be given up."""
        if self._stopping():
            return
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            await self.pace(batch.account).take(len(batch.events))
        finally:
            self._waiting.discard(task)

    async def _call(self, batch: Batch) -> list[tuple[MeterEvent, Outcome]]:
        """Make the call; what it means for each of its events."""
        delivery = self._delivery
        late = {event.event_id for event in batch.events if too_old_to_resend(event, delivery.wall())}
        if late:  # the machine slept while this waited for its turn
            waits = Retry("another event of its call may have been counted too long ago")
            too_late = Retry("it may have been counted too long ago", uncertain=True)
            return [(event, too_late if event.event_id in late else waits) for event in batch.events]
        made = self.calls[batch.way]
        made.calls += 1
        made.events += len(batch.events)
        try:
            outcome = await delivery.send(batch)
        except Exception as error:  # noqa: BLE001  (a lane must not wait for ever because of a bug)
            _log.exception("attempt_crashed", identifier=batch.events[0].identifier)
            outcome = Retry(f"{type(error).__name__}: {error}", uncertain=True)
        if len(batch.events) > 1 and _refuses_some(outcome):
            assert isinstance(outcome, Refused | Accepted)
            self._alone.update(event.event_id for event in batch.events)
            why = outcome.why if isinstance(outcome, Refused) else "some of it exists already"
            outcome = Retry(f"refused as a whole, each is sent by itself: {why}")
        return [(event, outcome) for event in batch.events]

    def _finish(self, event: MeterEvent, what: str) -> None:
        self._lanes.finish(event)
        self._alone.discard(event.event_id)
        self.counts[what] += 1

    def _try_again(self, events: Sequence[tuple[MeterEvent, Retry | Halted]], began_at: float) -> None:
        """Queue the events of a call at the heads of their lanes once more, as they now stand in the ledger."""
        delivery = self._delivery
        first, outcome = events[0]
        if isinstance(outcome, Retry) and outcome.too_fast is not None:
            self.pace(first.account).refused(outcome.too_fast)
        delay = delivery.backoff.delay(max(event.attempts for event, _ in events))
        if any(event.attempts == _TELL_AFTER for event, _ in events):
            _log.warning("meter_event_not_through", identifier=first.identifier, events=len(events), why=outcome.why)
        if isinstance(outcome, Halted) or outcome.everyone:
            gate = self.gate(first.account)
            pause = gate.failed(began_at)
            if pause is not None:
                self._report_wall(first, outcome, pause)
            delay = max(gate.opens_at - delivery.clock(), 0.0)
        until = delivery.clock() + delay
        for event, met in events:
            self._lanes.delay(_after(event, met), until)

    def _report_wall(self, event: MeterEvent, outcome: Retry | Halted, pause: float) -> None:
        account = event.account or "own"
        if isinstance(outcome, Halted):
            _log.error(
                "stripe_refuses_us", account=account, why=outcome.why, remedy=outcome.remedy, retry_in=round(pause, 1)
            )
        else:
            _log.warning("stripe_not_reachable", account=account, why=outcome.why, retry_in=round(pause, 1))

    async def _settle(self, batch: Batch, settled: Sequence[tuple[MeterEvent, Outcome]]) -> None:
        """Write the answer down, however long the ledger takes to be able to."""
        failures = 0
        while True:
            try:
                if batch.key:
                    await self._ledger.settle_batch(settled, self._delivery.wall())
                else:
                    ((event, outcome),) = settled
                    await self._ledger.settle(event, outcome, self._delivery.wall())
            except Unavailable:
                if self._stopping():  # safe as well: the event is resent unchanged, and Stripe knows its identifier
                    return
                failures += 1
                await asyncio.sleep(min(0.1 * 2**failures, 5.0))
            else:
                return


def _refuses_some(outcome: Outcome) -> bool:
    """Whether a call with several events was refused for the sake of one of them, with none of it processed."""
    return (isinstance(outcome, Refused) and not outcome.uncertain) or (
        isinstance(outcome, Accepted) and outcome.duplicate
    )


def _after(event: MeterEvent, outcome: Retry | Halted) -> MeterEvent:
    """The event as it stands after an attempt that settled nothing."""
    if isinstance(outcome, Halted):
        return event
    key = next_idempotency_key(event.identifier, event.attempts) if outcome.new_key else event.idempotency_key
    return replace(event, uncertain=event.uncertain or outcome.uncertain, idempotency_key=key)
