"""Reconciling: what the ledger says that Stripe must have counted, against what Stripe says. Pure.

A difference is told with the cause that is likely from what the ledger knows, and with what to do about it. What is
too recent for Stripe's summaries is no difference. Sums are compared exactly, but for what a float cannot hold:
Stripe tells its sums as floats.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, Protocol

from otel_usageflow.ledger import amount
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.usage import Quantity

SETTLED_FOR = 3_600.0
"""Seconds after which Stripe's summaries are taken to include an event. Stripe states no delay."""

_FLOAT_HOLDS = 2**53
"""Whole numbers up to here are exact in a float."""
_MOST_NAMED = 5


class Role(StrEnum):
    """What a meter event means for Stripe's sum."""

    COUNTED = "counted"
    ABSENT = "absent"
    """Certainly not counted: not sent yet, refused, given back or discarded."""
    CANCELLED = "cancelled"
    MAYBE = "maybe"
    """An attempt is under way: perhaps counted."""
    UNKNOWN = "unknown"
    """Perhaps counted, and only summaries or people can tell."""
    CANCELLING = "cancelling"
    """Counted, unless its cancellation got through."""
    MENDING = "mending"
    """A correction that makes Stripe's sum what the ledger says already: it adds nothing to what is expected."""


_ROLES = {
    EventState.FROZEN: Role.ABSENT,
    EventState.SENDING: Role.MAYBE,
    EventState.ACCEPTED: Role.COUNTED,
    EventState.REFUSED: Role.ABSENT,
    EventState.UNKNOWN: Role.UNKNOWN,
    EventState.RETURNED: Role.ABSENT,
    EventState.DISCARDED: Role.ABSENT,
    EventState.CANCELLED: Role.CANCELLED,
}


def role_of(state: EventState, *, cancelling: bool = False, mending: bool = False) -> Role:
    """The role of an event. `cancelling`: a cancellation has no definite answer. `mending`: see `Role.MENDING`."""
    role = _ROLES[state]
    if role is Role.COUNTED and mending:
        return Role.MENDING
    return Role.CANCELLING if role is Role.COUNTED and cancelling else role


class Pair(NamedTuple):
    """What Stripe keeps one sum for."""

    account: str
    event_name: str
    customer: str


class Only(NamedTuple):
    """Which pairs to look at; None: all."""

    account: str | None = None
    event_name: str | None = None
    customer: str | None = None
    among: tuple[Pair, ...] | None = None


class Tally(NamedTuple):
    """What the ledger expects of one stretch of time. Times are unix seconds."""

    total: Quantity
    events: int
    last: Quantity
    """The value of the latest event."""
    magnitude: float
    """About the sum of all values without their signs."""
    whole: bool
    """Whether every value is a whole number."""
    changed_at: float
    """When one of its events was last settled, or begun to be sent."""


NOTHING = Tally(0, 0, 0, 0.0, True, 0.0)


class EventFact(NamedTuple):
    """A meter event as far as comparing needs it. Times are unix seconds."""

    identifier: str
    value: Quantity
    timestamp: int
    role: Role
    changed_at: float
    refused: bool = False
    """Stripe refused it, or said later that it does not count it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the ledger knows of one customer, meter and stretch of time."""

    events: Sequence[EventFact] = ()
    late_refusals: int = 0
    """Refusals that Stripe has reported for this meter and that no event is known for yet."""
    open_corrections: int = 0
    """Corrections that were asked for and are not carried out."""


class Cause(StrEnum):
    """What a difference is likely to come from."""

    LOST = "lost"
    FOREIGN = "foreign"
    UNKNOWN_OUTCOME = "unknown_outcome"
    UNDER_WAY = "under_way"
    LATE_REFUSAL = "late_refusal"
    CANCELLATION = "cancellation"
    COUNTED_AFTER_ALL = "counted_after_all"
    CORRECTION = "correction"


EXPLAINED = {
    Cause.LOST: (
        "Stripe has less: it has not counted what it had accepted",
        "see `explain --event` for each event; mend it with `reconcile --repair`, or ask Stripe with the request id",
    ),
    Cause.FOREIGN: (
        "Stripe has more: another program sends to this meter, or the ledger was restored from an older backup",
        "find who else sends to the meter; what was sent in error is taken off with `reconcile --repair`",
    ),
    Cause.UNKNOWN_OUTCOME: (
        "events of unknown outcome, which Stripe may have counted",
        "the service settles them by summaries; or decide with `reconcile --counted` or `--not-counted IDENTIFIER`",
    ),
    Cause.UNDER_WAY: (
        "events are being sent, and an attempt may have been counted",
        "let the service run until they have an answer, and compare again",
    ),
    Cause.LATE_REFUSAL: (
        "Stripe reported refusals after its yes that are not joined to their events yet",
        "let the service run until it has found them; see `quarantine list`",
    ),
    Cause.CANCELLATION: (
        "a cancelled event, which Stripe has not taken off its sum",
        "compare again in an hour; if it stays, credit it by hand",
    ),
    Cause.COUNTED_AFTER_ALL: (
        "Stripe has counted an event that it had refused",
        "do not release it from quarantine: discard it with that reason",
    ),
    Cause.CORRECTION: (
        "a correction of this time is not carried out yet",
        "let the service run, and compare again in an hour; see `usage adjust --list`",
    ),
}
"""Cause -> what it means, what to do."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Ledger and Stripe differ about one customer, meter and stretch of time."""

    pair: Pair
    start: int
    """Unix seconds."""
    end: int
    """Exclusive."""
    ledger: Quantity
    stripe: Quantity
    cause: Cause
    events: tuple[str, ...]
    """Identifiers of events that it is likely about; none if that is not known."""
    timestamp: int
    """The moment for a correction: within the stretch, and that of the event where it is about one."""
    correctable: bool
    """Whether a further meter event can make the two equal."""

    @property
    def difference(self) -> Quantity:
        """How much more Stripe has."""
        return amount.add(self.stripe, amount.negative(self.ledger))


def expected(formula: Formula, tally: Tally) -> Quantity:
    """What Stripe's summary must say."""
    if formula is Formula.COUNT:
        return tally.events
    return tally.last if formula is Formula.LAST else tally.total


def same(formula: Formula, tally: Tally, stripe: Quantity) -> bool:
    """Whether Stripe's summary says what the ledger expects, as far as a float can tell."""
    return abs(_gap(stripe, expected(formula, tally))) <= _tolerance(formula, tally)


def is_fresh(tally: Tally, now: float, settled_for: float = SETTLED_FOR) -> bool:
    """Whether it changed so recently that the summaries may not show it."""
    return tally.changed_at > now - settled_for


def tally(events: Iterable[EventFact]) -> Tally:
    """What is expected of these events."""
    total: Quantity = 0
    last: Quantity = 0
    count, magnitude, whole, changed_at, latest = 0, 0.0, True, 0.0, (-1, -1.0)
    for event in events:
        changed_at = max(changed_at, event.changed_at)
        if event.role not in (Role.COUNTED, Role.CANCELLING):
            continue
        count += 1
        total = amount.add(total, event.value)
        magnitude += abs(float(event.value))
        whole = whole and isinstance(event.value, int)
        if (event.timestamp, event.changed_at) >= latest:
            latest, last = (event.timestamp, event.changed_at), event.value
    return Tally(total, count, last, magnitude, whole, changed_at)


def judge(pair: Pair, formula: Formula, start: int, end: int, facts: Facts, stripe: Quantity) -> Difference | None:
    """What is different in a stretch of time, and the likely cause; None if nothing is."""
    made = tally(facts.events)
    if same(formula, made, stripe):
        return None
    ledger = expected(formula, made)
    cause, blamed = _cause(formula, facts, _gap(stripe, ledger), _tolerance(formula, made))
    doubtful = any(event.role in (Role.MAYBE, Role.UNKNOWN, Role.CANCELLING) for event in facts.events)
    stamps = [event.timestamp for event in blamed or facts.events]
    return Difference(
        pair=pair,
        start=start,
        end=end,
        ledger=ledger,
        stripe=stripe,
        cause=cause,
        events=tuple(event.identifier for event in blamed[:_MOST_NAMED]),
        timestamp=max(stamps, default=start),
        correctable=formula is Formula.SUM
        and cause in (Cause.LOST, Cause.FOREIGN)
        and not (doubtful or facts.late_refusals or facts.open_corrections),
    )


def _cause(formula: Formula, facts: Facts, gap: Decimal, tolerance: Decimal) -> tuple[Cause, list[EventFact]]:
    """The likely cause, and the events that it is about."""
    by_role = {role: [event for event in facts.events if event.role is role] for role in Role}
    doubts = [
        (Cause.UNKNOWN_OUTCOME, by_role[Role.UNKNOWN], 1),
        (Cause.CANCELLATION, by_role[Role.CANCELLING], -1),
        (Cause.UNDER_WAY, by_role[Role.MAYBE], 1),
    ]
    shifts = [sign * _weight(formula, event) for _, events, sign in doubts for event in events]
    low = sum((min(shift, Decimal(0)) for shift in shifts), Decimal(0))
    high = sum((max(shift, Decimal(0)) for shift in shifts), Decimal(0))
    # What is in doubt may be in Stripe's sum: adding it has cost as much of a float as what was counted for certain.
    reach = _tolerance(formula, tally(event._replace(role=Role.COUNTED) for event in facts.events))
    if shifts and (formula is Formula.LAST or low - reach <= gap <= high + reach):
        return next((cause, events) for cause, events, _ in doubts if events)
    if facts.open_corrections:
        return Cause.CORRECTION, []
    if gap < 0 and facts.late_refusals:
        return Cause.LATE_REFUSAL, []
    if formula is Formula.LAST:
        return Cause.FOREIGN if gap > 0 else Cause.LOST, []
    if gap > 0:
        refused = [event for event in facts.events if event.refused and event.role is Role.ABSENT]
        for cause, events in (
            (Cause.CANCELLATION, by_role[Role.CANCELLED]),
            (Cause.COUNTED_AFTER_ALL, refused),
        ):
            blamed = _making_up(formula, events, gap, tolerance)
            if blamed:
                return cause, blamed
        return Cause.FOREIGN, []
    return Cause.LOST, _making_up(formula, by_role[Role.COUNTED], -gap, tolerance)


def _making_up(formula: Formula, events: list[EventFact], gap: Decimal, tolerance: Decimal) -> list[EventFact]:
    """Events of which each makes up the gap by itself, or all of them if they do together; else none."""
    alone = [event for event in events if abs(_weight(formula, event) - gap) <= tolerance]
    if alone:
        return alone
    if events and abs(sum((_weight(formula, event) for event in events), Decimal(0)) - gap) <= tolerance:
        return events
    return []


def _weight(formula: Formula, event: EventFact) -> Decimal:
    return Decimal(1) if formula is Formula.COUNT else Decimal(event.value)


def _gap(stripe: Quantity, ledger: Quantity) -> Decimal:
    return Decimal(amount.add(stripe, amount.negative(ledger)))


def _tolerance(formula: Formula, made: Tally) -> Decimal:
    """What adding floats may cost at the most: nothing for whole numbers that a float holds exactly."""
    if formula is Formula.COUNT or (made.whole and made.magnitude < _FLOAT_HOLDS):
        return Decimal(0)
    return Decimal(made.magnitude * (made.events + 2)) / _FLOAT_HOLDS


HOUR, A_DAY = 3_600, 86_400


class Stretch(NamedTuple):
    """A time that is compared in steps of `width` seconds, an hour or a day, as Stripe sums it."""

    start: int
    end: int
    width: int


def stretches(since: int, until: int) -> list[Stretch]:
    """Cut a time into whole UTC days, and hours before and after them. Bounds are moved outwards to the hour."""
    since, until = since - since % HOUR, until + -until % HOUR
    first_day, last_day = since + -since % A_DAY, until - until % A_DAY
    if first_day >= last_day:
        return [Stretch(since, until, HOUR)] if since < until else []
    cut = [Stretch(since, first_day, HOUR), Stretch(first_day, last_day, A_DAY), Stretch(last_day, until, HOUR)]
    return [one for one in cut if one.start < one.end]


class LedgerSums(Protocol):
    """What comparing reads from a ledger: from the meter events alone, never in the writer's way."""

    async def beginning(self) -> int | None:
        """The moment (unix seconds) from which on the ledger has every meter event; None if it has none."""

    async def tallies(self, stretch: Stretch, only: Only) -> Mapping[Pair, Mapping[int, Tally]]:
        """Pair -> start of a step -> what is expected; steps without events are missing. Without `Tally.last`."""

    async def facts(self, pair: Pair, start: int, end: int) -> Facts:
        """Every meter event of a stretch, in the order in which Stripe took them."""


class ComparedState(NamedTuple):
    """What the ledger remembers of comparisons. `at` is unix seconds, 0 for never."""

    at: float
    pairs: int
    different: int
    """Pairs that differed when they were last compared."""


class ComparedSums(LedgerSums, Protocol):
    """The same, with a memory of what was compared when, and what still waits to be sent."""

    async def next_pairs(self, start: int, end: int, limit: int, without: Collection[str] = ()) -> list[Pair]:
        """Pairs with events in a stretch, the one whose comparison is longest ago first; none of some accounts."""

    async def note(self, pair: Pair, at: float, since: int, until: int, difference: Quantity) -> None:
        """Remember that a pair was compared, and by how much it differed."""

    async def compared(self) -> ComparedState:
        """What was found when each pair was last compared."""

    async def oldest_unsent(self) -> float | None:
        """When the oldest usage ended (unix seconds) that can be sent and has no answer yet; None: nothing waits."""
