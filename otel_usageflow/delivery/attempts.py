"""One attempt to send an event, and what becomes of it: written down, and the event finished or queued once more."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

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
        self._paces: dict[str, Pace] = {}
        self.counts: Counter[str] = Counter()
        """What was done since the start: accepted, duplicate, retried, refused, set_aside."""

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
        if account not in self._paces:
            self._paces[account] = Pace(self._delivery.calls_per_second, self._delivery.clock)
        return self._paces[account]

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

    async def make(self, event: MeterEvent) -> None:
        """Make one attempt, when its turn has come, and write down what came of it."""
        delivery = self._delivery
        await self.pace(event.account).take()
        if self._stopping():
            return
        began_at = delivery.clock()
        try:
            if too_old_to_resend(event, delivery.wall()):  # the machine slept while this waited for its turn
                outcome: Outcome = Retry("it may have been counted too long ago", uncertain=True)
            else:
                outcome = await delivery.send(event)
        except Exception as error:  # noqa: BLE001  (a lane must not wait for ever because of a bug)
            _log.exception("attempt_crashed", identifier=event.identifier)
            outcome = Retry(f"{type(error).__name__}: {error}", uncertain=True)
        reached("send: answered")
        await self._settle(event, outcome)
        gate = self.gate(event.account)
        match outcome:
            case Accepted(duplicate=duplicate):
                self._lanes.finish(event)
                self.counts["duplicate" if duplicate else "accepted"] += 1
            case Refused():
                self._lanes.finish(event)
                self.counts["refused"] += 1
                delivery.refused(event, outcome)
            case Retry() | Halted():
                self.counts["retried"] += 1
                self._try_again(event, outcome, began_at)
                return
        if gate.succeeded():
            _log.info("stripe_reachable_again", account=event.account or "own")

    def _try_again(self, event: MeterEvent, outcome: Retry | Halted, began_at: float) -> None:
        """Queue the event at the head of its lane once more, as it now stands in the ledger."""
        delivery = self._delivery
        if isinstance(outcome, Retry):
            if outcome.too_fast:
                self.pace(event.account).slow_down()
            event = replace(
                event,
                uncertain=event.uncertain or outcome.uncertain,
                idempotency_key=next_idempotency_key(event.identifier, event.attempts)
                if outcome.new_key
                else event.idempotency_key,
            )
        delay = delivery.backoff.delay(event.attempts)
        if event.attempts == _TELL_AFTER:
            _log.warning("meter_event_not_through", identifier=event.identifier, why=outcome.why)
        if isinstance(outcome, Halted) or outcome.everyone:
            gate = self.gate(event.account)
            pause = gate.failed(began_at)
            if pause is not None:
                self._report_wall(event, outcome, pause)
            delay = max(gate.opens_at - delivery.clock(), 0.0)
        self._lanes.delay(event, delivery.clock() + delay)

    def _report_wall(self, event: MeterEvent, outcome: Retry | Halted, pause: float) -> None:
        account = event.account or "own"
        if isinstance(outcome, Halted):
            _log.error(
                "stripe_refuses_us", account=account, why=outcome.why, remedy=outcome.remedy, retry_in=round(pause, 1)
            )
        else:
            _log.warning("stripe_not_reachable", account=account, why=outcome.why, retry_in=round(pause, 1))

    async def _settle(self, event: MeterEvent, outcome: Outcome) -> None:
        """Write the answer down, however long the ledger takes to be able to."""
        failures = 0
        while True:
            try:
                await self._ledger.settle(event, outcome, self._delivery.wall())
            except Unavailable:
                if self._stopping():  # safe as well: the event is resent unchanged, and Stripe knows its identifier
                    return
                failures += 1
                await asyncio.sleep(min(0.1 * 2**failures, 5.0))
            else:
                return
