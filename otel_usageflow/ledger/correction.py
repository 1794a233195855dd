"""Corrections: what becomes of one that somebody asked for. Pure.

What was billed is never rewritten; a correction is a fact of its own. A whole meter event is undone by Stripe's
cancel while that is possible, 24 hours from its receipt. Else the difference is told in a further meter event at the
time of what it corrects, so that it falls into the same billing period. Where the meter cannot be told, or it is too
late, a note says what is to be credited by hand.

    asked ──> cancelling ──> cancelled
      │ ^       │    │          ^
      │ └───────┘    └──> unclear ──┐   (until the meter's summary shows which)
      │ certainly                   v
      ├ not processed ──────────> sending ──> billed
      └──> by_hand, void

An event is never both cancelled and corrected by another one: no event is made before it is certain that nothing was
cancelled, and nothing is cancelled once one was made.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import IDENTIFIER_MEMORY, STRIPE_PAST
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.judge import Candidate, judge, known_of
from otel_usageflow.ledger.reconcile import Facts, Pair, Role
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.usage import Quantity, Reason

CANCEL_FOR = IDENTIFIER_MEMORY - 900.0
"""Seconds after the first attempt at an event in which Stripe is asked to cancel it; 24 hours, less a margin."""
TELL_FOR = STRIPE_PAST - 300.0
"""Seconds back to which Stripe still takes a meter event, less a margin."""
UNCLEAR_FOR = 48 * 3_600.0
"""Seconds after the last attempt to cancel until it is given up to find out from summaries what became of it."""


class CorrectionState(StrEnum):
    """Where a correction is. The words are stored."""

    ASKED = "asked"
    """Written down, and certainly nothing was done yet."""
    CANCELLING = "cancelling"
    """Stripe was asked to cancel, and has not answered for certain."""
    UNCLEAR = "unclear"
    """It is too late to ask again: only the meter's summary can tell whether the event was cancelled."""
    SENDING = "sending"
    """It is told in a meter event that has no answer yet."""
    CANCELLED = "cancelled"
    BILLED = "billed"
    BY_HAND = "by_hand"
    """A person must do it in Stripe; the message says what."""
    VOID = "void"
    """There was nothing to correct."""


_S = CorrectionState
STEPS: Mapping[CorrectionState, frozenset[CorrectionState]] = {
    _S.ASKED: frozenset({_S.CANCELLING, _S.SENDING, _S.BY_HAND, _S.VOID}),
    _S.CANCELLING: frozenset({_S.CANCELLING, _S.ASKED, _S.CANCELLED, _S.UNCLEAR, _S.BY_HAND, _S.VOID}),
    _S.UNCLEAR: frozenset({_S.CANCELLED, _S.SENDING, _S.BY_HAND, _S.VOID}),
    _S.SENDING: frozenset({_S.BILLED, _S.BY_HAND}),
    _S.BILLED: frozenset({_S.SENDING, _S.BY_HAND}),
    _S.CANCELLED: frozenset(),
    _S.BY_HAND: frozenset(),
    _S.VOID: frozenset(),
}
"""From -> to. BILLED can be left: Stripe may refuse what it has taken."""

SETTLED = frozenset({_S.CANCELLED, _S.BILLED, _S.BY_HAND, _S.VOID})


class IllegalCorrectionStep(AssertionError):
    """A step that the table does not allow: a bug, and the transaction must not commit."""


def check_step(before: CorrectionState, after: CorrectionState) -> None:
    """Let only steps of the table pass."""
    if after not in STEPS[before]:
        raise IllegalCorrectionStep(f"a correction that is {before} cannot become {after}")


@dataclass(frozen=True, slots=True)
class Corrected:
    """The meter event that a correction is about. Times are unix seconds."""

    event_id: int
    identifier: str
    state: EventState
    value: Quantity
    first_attempt_at: float
    others: bool
    """Whether there are other corrections of it: cancelling it would leave those standing alone."""


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction, as it stands. Times are unix seconds."""

    number: int
    pair: Pair
    quantity: Quantity
    """What is added to the sum; negative where too much was billed."""
    timestamp: int
    whole: bool
    """Whether it undoes a whole meter event."""
    origin: str
    """`asked` by somebody, or `reconcile`: it makes Stripe's sum what the ledger says already."""
    why: str
    actor: str
    asked_at: float
    state: CorrectionState
    attempts: int = 0
    first_attempt_at: float | None = None
    last_attempt_at: float | None = None
    settled_at: float | None = None
    message: str | None = None
    corrected: Corrected | None = None
    """None if it is about no single event, or if that is not kept any more."""
    corrects: int | None = None
    """The number of the event that it is about, kept or not."""
    event_id: int | None = None
    event_identifier: str | None = None
    event_state: EventState | None = None
    event_message: str | None = None
    """The meter event that tells it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet."""

    why: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask Stripe to cancel the event; or ask again, unchanged."""

    identifier: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Make a meter event of it."""

    value: Quantity


@dataclass(frozen=True, slots=True)
class AskSummary:
    """Look at the meter's summary to see whether the event was cancelled."""


@dataclass(frozen=True, slots=True)
class Become:
    """Take a step that needs nothing of Stripe, with a message for people."""

    state: CorrectionState
    message: str


Decision = Wait | Cancel | Tell | AskSummary | Become


def decide(
    correction: Correction, meter: Formula | Reason | None, now: float, *, not_cancelled: str = ""
) -> Decision:
    """What to do about a correction next.

    Args:
        correction: as it stands.
        meter: how the meter adds up, why it cannot be fed, or None if that is not known yet.
        now: unix seconds.
        not_cancelled: why it is certain, when that was unclear, that Stripe has not cancelled the event.
    """
    corrected = correction.corrected
    if correction.state in (_S.ASKED, _S.CANCELLING, _S.UNCLEAR):
        if correction.corrects is not None and corrected is None:
            return Become(_S.BY_HAND, by_hand(correction, "the meter event is not in the ledger any more"))
        if corrected is not None and corrected.state is not EventState.ACCEPTED:
            return _not_billed(corrected)
    match correction.state:
        case _S.ASKED:
            alone = corrected is not None and correction.whole and not corrected.others
            if alone and corrected is not None and _may_cancel(corrected, now):
                return Cancel(corrected.identifier)
            return _tell(correction, meter, now, "")
        case _S.UNCLEAR if not_cancelled:
            return _tell(correction, meter, now, not_cancelled)
        case _S.CANCELLING:
            assert corrected is not None  # only an event is cancelled
            if _may_cancel(corrected, now):
                return Cancel(corrected.identifier)
            return Become(_S.UNCLEAR, "no answer of Stripe to the cancellation within 24 hours")
        case _S.UNCLEAR:
            if now - (correction.last_attempt_at or correction.asked_at) > UNCLEAR_FOR:
                return Become(_S.BY_HAND, _unclear_note(correction))
            return AskSummary()
        case _S.SENDING | _S.BILLED:
            return _follow(correction)
    return Wait("it is done")


def _not_billed(corrected: Corrected) -> Decision:
    """About an event that is not accepted: nothing of it is billed, or that is not known yet."""
    state = corrected.state.name.lower()
    if corrected.state in (EventState.FROZEN, EventState.SENDING, EventState.UNKNOWN):
        return Wait(f"the meter event is {state}")
    return Become(_S.VOID, f"the meter event is {state}: nothing of it is billed")


def _may_cancel(corrected: Corrected, now: float) -> bool:
    """Whether Stripe still cancels it for certain. A first attempt in the future means that a clock was wrong."""
    return -900.0 <= now - corrected.first_attempt_at < CANCEL_FOR


def _tell(correction: Correction, meter: Formula | Reason | None, now: float, not_cancelled: str) -> Decision:
    before = f"{not_cancelled}; " if not_cancelled else ""
    if correction.timestamp < now - TELL_FOR:
        return Become(_S.BY_HAND, by_hand(correction, f"{before}Stripe takes nothing older than 35 days"))
    if meter is None:
        return Wait("the meter is not known yet")
    if isinstance(meter, Reason):
        return Wait(f"the meter takes no events now ({meter})")
    if meter is not Formula.SUM:
        return Become(_S.BY_HAND, by_hand(correction, f"{before}the meter does not sum, it aggregates by {meter}"))
    return Tell(correction.quantity)


def _follow(correction: Correction) -> Decision:
    match correction.event_state:
        case EventState.ACCEPTED | EventState.CANCELLED:
            if correction.state is _S.BILLED:
                return Wait("it is done")
            return Become(_S.BILLED, f"billed as meter event {correction.event_identifier}")
        case EventState.REFUSED | EventState.RETURNED | EventState.DISCARDED:
            why = f"Stripe refused it: {correction.event_message or 'no reason given'}"
            return Become(_S.BY_HAND, by_hand(correction, why))
        case None:
            return Wait("its meter event is not kept any more")
    if correction.state is _S.BILLED:
        return Become(_S.SENDING, "its meter event is being sent again")
    return Wait("its meter event has no answer yet")


def was_cancelled(correction: Correction, meter: Formula, facts: Facts, reported: Decimal) -> bool | None:
    """Whether the event was cancelled, from the summary of its minute; None if that does not show.

    `facts` is what the ledger knows of the minute.
    """
    assert correction.corrected is not None  # only an event is cancelled
    known, candidates, mine = [], [], -1
    for place, event in enumerate(facts.events):
        if event.role in (Role.COUNTED, Role.MENDING):
            known.append((event.timestamp, event.value))
        elif event.role in (Role.CANCELLING, Role.UNKNOWN, Role.MAYBE):
            candidates.append(Candidate(place, event.value, event.timestamp, event.role))
            if event.identifier == correction.corrected.identifier:
                mine = place
    counted = judge(reported, meter, known_of(known), candidates).get(mine)
    return None if counted is None else not counted


def effective(event_id: int, value: Quantity, corrections: Iterable[Correction]) -> Quantity:
    """What of an event is billed once all its corrections are carried out, those of corrections included."""
    kept = [one for one in corrections if one.state is not _S.VOID and one.origin != "reconcile"]

    def standing(number: int, own: Quantity) -> Quantity:
        total = own
        for one in kept:
            if one.corrects == number:
                told = one.quantity if one.event_id is None else standing(one.event_id, one.quantity)
                total = amount.add(total, told)
        return total

    return standing(event_id, value)


def by_hand(correction: Correction, why: str) -> str:
    """What a person has to do, and why we cannot."""
    moment = datetime.fromtimestamp(correction.timestamp, UTC).isoformat().replace("+00:00", "Z")
    quantity = correction.quantity
    what = f"{amount.plain(max(quantity, amount.negative(quantity)))} {correction.pair.event_name}"
    whom = f"customer {correction.pair.customer}"
    whom += f" in account {correction.pair.account}" if correction.pair.account else ""
    if quantity < 0:
        do = f"credit {what} of {moment} to {whom} by hand, with a credit note or a negative invoice item"
    else:
        do = f"charge {what} of {moment} to {whom} by hand, with an invoice item"
    return f"{do}: {why}"


def _unclear_note(correction: Correction) -> str:
    why = (
        "Stripe did not say whether it cancelled the event, and its summaries do not show it; look before you credit"
    )
    return by_hand(correction, why)


class Corrections(Protocol):
    """The part of a ledger that carries corrections out. Every method is one transaction."""

    async def open(self) -> Sequence[Correction]:
        """Corrections that something may have to be done about, oldest first."""

    async def begin_cancel(self, number: int, now: float) -> bool:
        """Write down that Stripe is asked to cancel; False if the event is not there to be cancelled any more."""

    async def not_processed(self, number: int, why: str) -> None:
        """The first attempt to cancel was certainly not processed: the correction stands as it was asked for."""

    async def note(self, number: int, why: str) -> None:
        """Remember what an attempt came to that decided nothing."""

    async def cancelled(self, number: int, message: str, now: float) -> None:
        """Stripe has cancelled the event."""

    async def tell(self, number: int, value: Quantity, now: float) -> str:
        """Make the meter event that tells the correction, and hand it to the sender; its identifier."""

    async def become(self, number: int, state: CorrectionState, message: str, now: float) -> None:
        """Take another step."""
