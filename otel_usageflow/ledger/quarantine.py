"""Quarantine: which entries somebody means, what can become of each, and what is to be done about a reason. Pure.

There are three kinds of entries: single requests that were clear to be unbillable when they came, windows that wait
for a customer or a meter, and meter events that Stripe has refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from otel_usageflow.ledger.charge import DAY, STRIPE_PAST
from otel_usageflow.model.usage import Quantity, Reason

RELEASE_MARGIN = 600
"""Seconds before Stripe's 35-day limit at which it is too late to release: freezing and sending take time, too."""

_MISSING = ("no_meter", "archived_meter", "meter_event_customer_not_found")
"""Stripe's codes for a missing meter or customer (reference: meter event errors)."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which entries are meant: those that fit all that is given. Times are unix seconds, of the span's end."""

    reasons: tuple[Reason, ...] = ()
    policy: str | None = None
    user: str | None = None
    customer: str | None = None
    event_name: str | None = None
    account: str | None = None
    """Empty for the key's own account."""
    mode: str | None = None
    """`test` or `live`."""
    since: float | None = None
    until: float | None = None
    identifier: str | None = None
    """Of a meter event, also one that it had before."""
    trace_id: bytes | None = None
    aside_until: float | None = None
    """Only what was set aside by then: what somebody was shown, and nothing that came while they thought."""

    @property
    def any(self) -> bool:
        """Whether anything narrows what is meant."""
        return self != Filters(aside_until=self.aside_until)


class Kind(StrEnum):
    """What an entry is."""

    REQUEST = "request"
    WINDOW = "window"
    EVENT = "event"


class Entry(NamedTuple):
    """One thing in quarantine."""

    kind: Kind
    place: bytes | tuple[int, int, int, int] | int
    """A charge's key; a window's length, start, series and first commit; or an event's number."""
    identifier: str
    """Of a meter event; else empty."""
    reason: Reason
    code: str
    moment: float
    """The moment that Stripe's 35 days are counted from, unix seconds."""
    requests: int
    quantity: Quantity | None
    """None without a valid one."""
    user: str
    """Empty without one, and for meter events, which have a customer."""
    whole: bool
    """Whether everything in it is meant. A window or meter event can hold requests of others, too."""
    alone: bool = True
    """Whether a meter event tells all of what it covers: False for a part of an amount, or without any usage."""
    corrected: bool = False
    """Whether corrections of a meter event, which was billed once, stand by themselves if it is not sent again."""
    made_up: bool = False
    """Whether Stripe was told what a meter event lacked when ledger and Stripe were compared."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person has decided about requests that lack a user, or a quantity."""

    user: str | None = None
    quantity: Quantity | None = None


class Way(StrEnum):
    """How an entry is released, in words for people."""

    FILE = "billed as decided"
    REOPEN = "decided about again"
    GIVE_BACK = "given another meter event"
    RESEND = "sent again under another identifier"


class Obstacle(StrEnum):
    """Why an entry is left alone, and what would help."""

    NEEDS_USER = "needs --as-user USER"
    NEEDS_QUANTITY = "needs --quantity N"
    NEEDS_BOTH = "needs --as-user USER and --quantity N"
    TOO_LATE = "too old: Stripe takes usage of 35 days"
    SHARED = "holds other requests, too: leave out --policy, --user or --trace"
    CORRECTED = "was corrected while it was billed: undo that first with `usage adjust`, or release it"
    MADE_UP = "`reconcile --repair` has billed it already: undo that first with `usage adjust`"


def release_of(entry: Entry, decided: Decided, now: float, pruned_to: float = 0) -> Way | Obstacle:
    """How an entry is released, or why it is not.

    Usage before `pruned_to` was pruned: whether a request of that time was billed is not known any more.
    """
    if entry.moment < now - STRIPE_PAST + RELEASE_MARGIN:
        return Obstacle.TOO_LATE
    if entry.kind is Kind.REQUEST:
        if entry.moment < pruned_to:
            return Obstacle.TOO_LATE
        no_user = not entry.user and decided.user is None
        no_quantity = entry.quantity is None and decided.quantity is None
        if no_user and no_quantity:
            return Obstacle.NEEDS_BOTH
        if no_user:
            return Obstacle.NEEDS_USER
        return Obstacle.NEEDS_QUANTITY if no_quantity else Way.FILE
    if entry.kind is Kind.WINDOW:
        return Way.REOPEN
    if entry.made_up:
        return Obstacle.MADE_UP
    missing = entry.reason in (Reason.NO_CUSTOMER, Reason.NO_METER) or entry.code in _MISSING
    return Way.GIVE_BACK if missing and entry.alone else Way.RESEND


def discard_of(entry: Entry) -> Obstacle | None:
    """Why an entry is not discarded: nothing is that was not meant."""
    if not entry.whole:
        return Obstacle.SHARED
    return Obstacle.CORRECTED if entry.corrected else None


def days_left(oldest: float, now: float) -> float:
    """Days until Stripe takes usage of this moment no more; negative when it is too late."""
    return (oldest + STRIPE_PAST - now) / DAY


_REMEDIES = {
    Reason.NO_USER: "mend the capture or the policy and send the spans again; or release --as-user USER",
    Reason.NO_CUSTOMER: "give a customer this user in the metadata field: billed by itself then",
    Reason.AMBIGUOUS_CUSTOMER: "leave the value on one customer only: billed by itself then",
    Reason.NO_METER: "create or reactivate the meter: billed by itself then",
    Reason.BAD_QUANTITY: "mend the attribute or the policy and send the spans again; or release --quantity N",
    Reason.TOO_OLD: "Stripe takes 35 days only: bill it by an invoice item, then discard",
    Reason.REJECTED: "mend what Stripe names, then release",
}
_REMEDIES_OF_CODES = {
    "meter_event_customer_not_found": "the customer was deleted, or is another account's: mend that, then release",
    "archived_meter": "reactivate the meter, then release",
    "no_meter": "create the meter, then release",
    "meter_event_value_too_many_digits": "Stripe takes 15 digits: bill it by an invoice item, then discard",
    "timestamp_in_future": "set this machine's clock right, then release",
    "timestamp_too_far_in_past": _REMEDIES[Reason.TOO_OLD],
}


def remedy(reason: Reason, code: str = "") -> str:
    """What to do about it, in words."""
    return _REMEDIES_OF_CODES.get(code) or _REMEDIES[reason]


@dataclass(frozen=True, slots=True)
class Group:
    """Entries that are alike. Times are unix seconds."""

    account: str
    reason: Reason
    code: str
    policies: tuple[str, ...]
    """Those that the usage may come from; mostly one."""
    event_name: str
    metadata_field: str | None
    users: tuple[str, ...]
    """Mostly one; none for requests without a user; several where a customer has several users in a meter event."""
    customer: str | None
    requests: int
    quantity: Quantity
    """Without what has no valid quantity."""
    oldest: float
    newest: float
    since: float
    """When the first of them was set aside."""
    mode: str = ""
    """Of the key, `test` or `live`."""


@dataclass(frozen=True, slots=True)
class Single:
    """One request in quarantine."""

    account: str
    reason: Reason
    code: str
    policy: str
    event_name: str
    metadata_field: str | None
    user: str
    customer: str | None
    quantity: Quantity | None
    ended_at: float
    trace_id: str
    span_id: str
    identifier: str
    """Of the meter event that Stripe refused; else empty."""
    seen: Sequence[str]
    """For a request without a user: the names of the attributes that its span carried."""
    mode: str = ""
    """Of the key, `test` or `live`."""
