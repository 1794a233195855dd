"""How usage becomes meter events: the decision that is taken once for every window, and then never again.

A window is due when it has ended. What happens to it then depends on three questions: is there a meter that
can be fed with it, which customer is it, and is that customer's lane free? A busy lane leaves its windows
open, so that they merge while they wait: few calls when busy, low latency when quiet.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import MINUTE, STRIPE_PAST
from otel_usageflow.model.usage import Quantity, Reason

Lane = tuple[str, str, str]
"""Account, event name, customer: Stripe takes one call at a time for each."""

_SENDING_MARGIN = 300
"""Seconds before Stripe's 35-day limit at which a window counts as too old: it must still arrive in time."""


class Formula(StrEnum):
    """A meter's `default_aggregation.formula`."""

    SUM = "sum"
    COUNT = "count"
    LAST = "last"


class DueWindow(NamedTuple):
    """A window that has ended: what one user did under one event name within `length` seconds."""

    account: str
    event_name: str
    metadata_field: str | None
    user: str
    payload: str
    """The further keys, as JSON with sorted keys."""
    series_id: int
    start: int
    length: int
    first_seq: int
    last_seq: int
    requests: int
    total: Quantity
    last_ns: int
    last_value: Quantity


class FiledRecord(NamedTuple):
    """A usage record as the ledger keeps it, for meters that take one event a record."""

    key: bytes
    at_ns: int
    quantity: Quantity


Customers = Mapping[tuple[str, str, str], Sequence[str]]
"""(account, metadata field, user) -> the ids of the customers that have this value."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """How usage is frozen that has just come, so that it does not wait behind a backlog.

    `since`: unix seconds, a UTC minute; windows that start from there on are fresh, but for those of meters that keep
    the last value. `busy` tells whether fresh usage of a lane waits already. `limit`: about how many meter events.
    `meters` are those of `FreezeRules` that more fresh usage may be frozen for.
    """

    since: int
    meters: Mapping[tuple[str, str], Formula | Reason]
    limit: int
    busy: Callable[[Lane], bool]


@dataclass(frozen=True, slots=True)
class FreezeRules:
    """What the exporter knows at the moment of freezing.

    `meters` has a formula for a meter that can be fed, a reason for one that cannot, and no entry for one that
    is not known yet. `listed` names the (account, metadata field) pairs whose directory is complete; the usage
    of others waits, because a customer that is not listed yet is not a missing customer.
    """

    now: float
    max_window: int
    one_by_one: bool
    meters: Mapping[tuple[str, str], Formula | Reason]
    listed: Set[tuple[str, str]]
    busy: Callable[[Lane], bool]
    copied_seq: int = 0
    """The last commit of the copy that this ledger was restored from: its usage may have been sent since."""
    fresh: Fresh | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A meter event to be. Several windows may share one; a record of its own names its key."""

    lane: Lane
    payload: str
    value: str
    timestamp: int
    requests: int
    windows: tuple[DueWindow, ...]
    record_key: bytes | None = None
    part: int = 0
    """0, or the number of a further part of an amount with too many digits for one value."""
    parts: int = 1
    perhaps_sent: bool = False
    """Its usage was in a copy that this ledger was restored from."""


@dataclass(slots=True)
class Plan:
    """What to write down for the windows that were looked at. Windows in none of the lists stay open."""

    drafts: list[Draft] = field(default_factory=list)
    zero: list[DueWindow] = field(default_factory=list)
    """Summed to 0: done, and no meter event is made."""
    one_by_one: list[tuple[Lane, DueWindow, Formula]] = field(default_factory=list)
    """To be frozen record by record, with `draft_records`."""
    held: list[tuple[DueWindow, Reason]] = field(default_factory=list)


def plan(windows: Iterable[DueWindow], customers: Customers, rules: FreezeRules) -> Plan:
    """Decide about windows that are due, oldest first. Pure, and the same answer for the same question."""
    made = Plan()
    groups: dict[Lane, list[DueWindow]] = {}
    for window in windows:
        meter = rules.meters.get((window.account, window.event_name))
        if meter is None:
            continue
        if isinstance(meter, Reason):
            made.held.append((window, meter))
            continue
        if window.last_ns // 1_000_000_000 < rules.now - STRIPE_PAST + _SENDING_MARGIN:
            made.held.append((window, Reason.TOO_OLD))
            continue
        customer = _customer(window, customers, rules.listed)
        if customer is None:
            continue
        if isinstance(customer, Reason):
            made.held.append((window, customer))
            continue
        lane = (window.account, window.event_name, customer)
        if not rules.busy(lane):
            groups.setdefault(lane, []).append(window)
    for lane, waiting in groups.items():
        _freeze_lane(lane, waiting, rules, made)
    return made


def _customer(window: DueWindow, customers: Customers, listed: Set[tuple[str, str]]) -> str | Reason | None:
    """The customer, why there is none, or None while the directory is not complete."""
    if window.metadata_field is None:
        return window.user
    found = customers.get((window.account, window.metadata_field, window.user), ())
    if len(found) > 1:
        return Reason.AMBIGUOUS_CUSTOMER
    if (window.account, window.metadata_field) not in listed:
        return None  # a second customer with this value may not be listed yet
    return found[0] if found else Reason.NO_CUSTOMER


def _freeze_lane(lane: Lane, waiting: list[DueWindow], rules: FreezeRules, made: Plan) -> None:
    """Freeze the first event of a lane: windows of one minute, one payload, and at most `max_window` seconds."""
    formula = rules.meters[lane[0], lane[1]]
    assert isinstance(formula, Formula)  # windows of other meters were held before
    if rules.one_by_one or formula is Formula.COUNT:
        made.one_by_one.append((lane, waiting[0], formula))
        return
    first = waiting[0]
    merged = [
        window
        for window in waiting
        if window.payload == first.payload
        and (window.last_seq <= rules.copied_seq) == (first.last_seq <= rules.copied_seq)
        and window.start // MINUTE == first.start // MINUTE
        and window.start + window.length - first.start <= max(rules.max_window, first.length)
    ]
    filled = [window for window in merged if window.requests]  # all of a window may have been taken back
    if formula is Formula.LAST:
        if not filled:
            made.zero.extend(merged)
            return
        latest = max(filled, key=lambda window: window.last_ns)
        value: Quantity = latest.last_value
        pieces = [value]
        if len(amount.parts(value)) > 1:
            made.held.extend((window, Reason.BAD_QUANTITY) for window in merged)
            return
    else:
        value = 0
        for window in merged:
            value = amount.add(value, window.total)
        pieces = amount.parts(value)
    if value == 0 and formula is Formula.SUM:
        made.zero.extend(merged)
        return
    timestamp = max(window.last_ns for window in filled or merged) // 1_000_000_000
    requests = sum(window.requests for window in merged)
    for number, piece in enumerate(pieces):
        made.drafts.append(
            Draft(
                lane=lane,
                payload=first.payload,
                value=amount.plain(piece),
                timestamp=timestamp,
                requests=requests if number == 0 else 0,
                windows=tuple(merged) if number == 0 else (),
                part=number,
                parts=len(pieces),
                perhaps_sent=first.last_seq <= rules.copied_seq,
            )
        )


def makes_event(record: FiledRecord, formula: Formula) -> bool:
    """Whether a record by itself tells the meter anything: 0 adds nothing, but it can be the last value."""
    return record.quantity != 0 or formula is Formula.LAST


def draft_records(lane: Lane, window: DueWindow, records: Iterable[FiledRecord], formula: Formula) -> list[Draft]:
    """One meter event for each record of a window, in the order in which they happened; none for 0."""
    drafts = []
    for record in sorted(records, key=lambda record: (record.at_ns, record.key)):
        if not makes_event(record, formula):
            continue
        # Only a sum can be told in parts: they would be counted, or the smallest would be the last.
        pieces = amount.parts(record.quantity) if formula is Formula.SUM else [record.quantity]
        for number, piece in enumerate(pieces):
            drafts.append(
                Draft(
                    lane=lane,
                    payload=window.payload,
                    value=amount.plain(piece),
                    timestamp=record.at_ns // 1_000_000_000,
                    requests=1 if number == 0 else 0,
                    windows=(),
                    record_key=record.key,
                    part=number,
                    parts=len(pieces),
                )
            )
    return drafts
