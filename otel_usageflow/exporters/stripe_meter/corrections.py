"""Carries out corrections: asks Stripe to cancel, or makes the meter event that tells the difference.

What is done next is decided in `ledger/correction.py` from what is written down, so this can die at any instruction.
A cancellation is written down before it is asked for, and asked for again with the same idempotency key until there
is a definite answer, or until it would come too late; then the meter's summary shows whether it got through.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import structlog

from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.errors import Unavailable
from otel_usageflow.exporters.stripe_meter.answers import cancellation_outcome, explained
from otel_usageflow.exporters.stripe_meter.api import StripeApi
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM, Rhythm
from otel_usageflow.exporters.stripe_meter.summaries import Summaries
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.ledger.charge import MINUTE
from otel_usageflow.ledger.correction import (
    AskSummary,
    Become,
    Cancel,
    Correction,
    Corrections,
    CorrectionState,
    Decision,
    Tell,
    Wait,
    decide,
    was_cancelled,
)
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.reconcile import LedgerSums
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.outcome import Halted, Refused, Retry
from otel_usageflow.model.usage import Reason

_log = structlog.get_logger(__name__)

_LOOK = 1.0
"""Seconds between two looks for corrections; people wait for them."""
_ASK_AGAIN = 3_600.0
"""Seconds between two looks at a summary that decided nothing."""


class Side(Protocol):
    """What is asked of an account."""

    def meter(self, event_name: str) -> Meter:
        """The meter of an event name."""

    def feedings(self) -> dict[tuple[str, str], Formula | Reason]:
        """How each event name is fed now; without an entry it is not known yet."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where corrections are kept, and what they are carried out with. `now` is unix seconds."""

    corrections: Corrections
    sums: LedgerSums
    api: StripeApi
    summaries: Summaries
    accounts: Mapping[str, Side]
    now: Callable[[], float]
    backoff: Backoff
    rhythm: Rhythm = RHYTHM


class Corrector:
    """Carries out the corrections of one book."""

    def __init__(self, sources: Sources) -> None:
        self._of = sources
        self._failures: dict[int, int] = {}
        self._not_before: dict[int, float] = {}
        self._other_key: dict[int, int] = {}

    async def follow(self) -> None:
        """Carry out what is asked for until cancelled."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                _log.warning("corrections_wait", why=str(error))
            except Exception:  # noqa: BLE001  (logged with its traceback)
                # A mistake of ours must not stop spans from being taken: corrections are safe in the ledger.
                _log.exception("corrections_stumbled")
            await asyncio.sleep(_LOOK)

    async def look(self) -> None:
        """Take each open correction as far as it goes now.

        Raises:
            Unavailable: the ledger cannot be written.
        """
        for correction in await self._of.corrections.open():
            if self._of.now() < self._not_before.get(correction.number, 0.0):
                continue
            if correction.pair.account not in self._of.accounts:
                await self._wait(correction, "its account is not in the configuration since the start of the service")
                continue
            await self._apply(correction, self._decide(correction))

    def _decide(self, correction: Correction, not_cancelled: str = "") -> Decision:
        account, event_name, _ = correction.pair
        meter = self._of.accounts[account].feedings().get((account, event_name))
        return decide(correction, meter, self._of.now(), not_cancelled=not_cancelled)

    async def _apply(self, correction: Correction, decision: Decision) -> None:
        number, now = correction.number, self._of.now()
        match decision:
            case Wait(why):
                await self._wait(correction, why)
            case Cancel(identifier):
                await self._cancel(correction, identifier)
            case Tell(value):
                name = await self._of.corrections.tell(number, value, now)
                _log.info("correction_told", correction=number, identifier=name)
            case AskSummary():
                await self._ask_summary(correction)
            case Become(state, message):
                await self._of.corrections.become(number, state, message, now)
                log = _log.warning if state is CorrectionState.BY_HAND else _log.info
                log(f"correction_{state}", correction=number, what=message)

    async def _wait(self, correction: Correction, why: str) -> None:
        if correction.state is CorrectionState.ASKED and correction.message != why:
            await self._of.corrections.note(correction.number, why)

    async def _cancel(self, correction: Correction, identifier: str) -> None:
        """One attempt to cancel."""
        corrections, number = self._of.corrections, correction.number
        if not await corrections.begin_cancel(number, self._of.now()):
            return  # something has become of the event; decided about at the next look
        key = f"cancel_{identifier}"
        if number in self._other_key:
            key += f"_k{self._other_key[number]}"
        try:
            status = await self._of.api.cancel_meter_event(
                correction.pair.account, correction.pair.event_name, identifier, key
            )
        except StripeFailure as error:
            reached("cancel: answered")
            await self._not_cancelled(correction, error)
            return
        reached("cancel: answered")
        await self._cancelled(correction, f"Stripe cancelled it ({status})")

    async def _cancelled(self, correction: Correction, message: str) -> None:
        await self._of.corrections.cancelled(correction.number, message, self._of.now())
        _log.info("correction_cancelled", correction=correction.number, what=message)

    async def _not_cancelled(self, correction: Correction, error: BaseException) -> None:
        """The attempt brought no yes: it is known that it did nothing, or it is not."""
        corrections, number = self._of.corrections, correction.number
        may_have_been = correction.state is CorrectionState.CANCELLING
        match cancellation_outcome(error):
            case Refused(why=why):
                # Perhaps an earlier attempt got through, or that of somebody else, or the event is not there at all.
                await corrections.become(number, CorrectionState.UNCLEAR, why, self._of.now())
                _log.warning("correction_unclear", correction=number, why=why)
            case Halted(why=why, remedy=remedy):
                await self._later(correction, f"{why}; {remedy}", processed=may_have_been)
            case Retry(why=why, uncertain=uncertain, new_key=new_key):
                if new_key:
                    self._other_key[number] = correction.attempts + 1
                await self._later(correction, why, processed=may_have_been or uncertain)

    async def _later(self, correction: Correction, why: str, *, processed: bool) -> None:
        number = correction.number
        if processed:
            await self._of.corrections.note(number, why)
        else:
            await self._of.corrections.not_processed(number, why)
        failures = self._failures[number] = self._failures.get(number, 0) + 1
        if failures == 1:
            _log.warning("correction_not_through", correction=number, why=why)
        self._not_before[number] = self._of.now() + self._of.backoff.delay(failures)

    async def _ask_summary(self, correction: Correction) -> None:
        """Find out from the summary of the event's minute whether it was cancelled."""
        asked_at = correction.last_attempt_at or correction.asked_at
        if self._of.now() < asked_at + self._of.rhythm.summary_delay:
            return
        pair, minute = correction.pair, correction.timestamp // MINUTE * MINUTE
        meter = self._of.accounts[pair.account].meter(pair.event_name)
        formula = self._of.accounts[pair.account].feedings().get((pair.account, pair.event_name))
        if not meter.id or not isinstance(formula, Formula):
            return
        facts = await self._of.sums.facts(pair, minute, minute + MINUTE)
        try:
            summaries = await self._of.summaries.summaries(
                pair.account, meter.id, pair.customer, minute, minute + MINUTE
            )
        except StripeFailure as error:
            _log.warning("correction_not_through", correction=correction.number, why=explained(error))
            self._not_before[correction.number] = self._of.now() + self._of.rhythm.look
            return
        reported = sum((one.value for one in summaries), Decimal(0))
        verdict = was_cancelled(correction, formula, facts, reported)
        if verdict is None:
            self._not_before[correction.number] = self._of.now() + _ASK_AGAIN
        elif verdict:
            await self._cancelled(correction, "the meter's summary shows that Stripe cancelled it")
        else:
            decision = self._decide(correction, "the meter's summary shows that Stripe did not cancel it")
            await self._apply(correction, decision)
