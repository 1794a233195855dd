"""The proof for one line of a bill: from a request to Stripe's answer, and back."""

from dataclasses import dataclass

from otel_usageflow.model.usage import Quantity


@dataclass(frozen=True, slots=True)
class EarlierAnswer:
    """An answer to a meter event that was not the last word: it was taken back, or the event was sent again."""

    identifier: str
    """The one that the event had then."""
    state: str
    attempts: int
    first_attempt_at: float | None
    settled_at: float | None
    duplicate: bool
    reason: str | None
    code: str | None
    answer: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class ExplainedCorrection:
    """What was asked for to correct a meter event."""

    number: int
    quantity: Quantity
    """Signed: what it adds to the bill."""
    state: str
    asked_at: float
    actor: str
    why: str
    corrects: str | None = None
    """The identifier of the meter event that is corrected, if it is about one."""


@dataclass(frozen=True, slots=True)
class ExplainedEvent:
    """A meter event and what became of it. Times are unix seconds."""

    identifier: str
    account: str
    event_name: str
    customer: str
    value: str
    timestamp: int
    state: str
    """One of `ledger.states.EventState`, in lower case."""
    requests: int
    attempts: int
    frozen_at: float
    first_attempt_at: float | None
    settled_at: float | None
    duplicate: bool
    """Stripe had it already when it said yes: an earlier attempt had got through."""
    reason: str | None
    code: str | None
    answer: str | None
    """What Stripe, or the way to it, said last."""
    request_id: str | None
    """Stripe's `Request-Id` of the definite answer."""
    earlier: tuple[EarlierAnswer, ...] = ()
    """Answers before the one above, oldest first."""
    corrections: tuple[ExplainedCorrection, ...] = ()
    followed_by: tuple[str, ...] = ()
    """Of an event that was given back: the identifiers of the events that bill its usage now."""
    correction: ExplainedCorrection | None = None
    """What an event without requests tells, if that is a correction."""


@dataclass(frozen=True, slots=True)
class ExplainedWindow:
    """The window that a record was summed in."""

    start: int
    """Unix seconds."""
    length: int
    requests: int
    quantity: Quantity


@dataclass(frozen=True, slots=True)
class ExplainedDecision:
    """Something that was decided about usage while it could not be billed; see the audit log."""

    at: float
    """Unix seconds."""
    actor: str
    """`service`, or who gave the command."""
    action: str
    """released, discarded or refiled."""
    why: str
    entry: int
    """The number in the audit log."""


@dataclass(frozen=True, slots=True)
class ExplainedPart:
    """A number that a quantity was summed from."""

    span_id: str
    attribute: str
    quantity: Quantity | None
    """None if it cannot be billed."""


@dataclass(frozen=True, slots=True)
class ExplainedUsage:
    """One charge: a request under one policy, and all that happened to it."""

    trace_id: str
    span_id: str
    policy: str
    account: str
    event_name: str
    source: str | None
    """Where the user was found, for example `header x-account-id`."""
    user: str | None
    metadata_field: str | None
    quantity: Quantity | None
    ended_at: float
    """The moment that is billed, unix seconds."""
    standing: str
    """One of `ledger.report.Standing`."""
    reason: str | None
    seen: tuple[str, ...]
    """For a request without a user: the names of the attributes that its span carried."""
    window: ExplainedWindow | None
    event: ExplainedEvent | None
    decisions: tuple[ExplainedDecision, ...] = ()
    earlier_events: tuple[str, ...] = ()
    """Identifiers of events that had covered it and were given back, certainly not counted."""
    resolution: str | None = None
    """How it left quarantine, if it was there."""
    waits_until: float | None = None
    """Until when spans of its trace are waited for."""
    made_of: tuple[ExplainedPart, ...] = ()
    """What its quantity was summed from, if it is summed over the trace."""
    late_for: str | None = None
    """For a span that is usage of its own because it came late: the request's span."""
    same_as: tuple[str, str] | None = None
    """Trace id and span id of the charge that counts for it, where both carry one request id."""


@dataclass(frozen=True, slots=True)
class ExplainedRequest:
    """One of the requests that make up a meter event."""

    trace_id: str
    span_id: str
    policy: str
    user: str
    quantity: Quantity
    ended_at: float
