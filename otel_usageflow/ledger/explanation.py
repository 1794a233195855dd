"""The proof for one line of a bill: from a request to Stripe's answer, and back."""

from dataclasses import dataclass

from otel_usageflow.model.usage import Quantity


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
    """frozen, sending, accepted, refused or unknown; see `ledger/states.py`."""
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


@dataclass(frozen=True, slots=True)
class ExplainedWindow:
    """The window that a record was summed in."""

    start: int
    """Unix seconds."""
    length: int
    requests: int
    quantity: Quantity


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
    """billed, sending, collecting, quarantined or unknown; see `ledger/report.py`."""
    reason: str | None
    seen: tuple[str, ...]
    """For a request without a user: the names of the attributes that its span carried."""
    window: ExplainedWindow | None
    event: ExplainedEvent | None


@dataclass(frozen=True, slots=True)
class ExplainedRequest:
    """One of the requests that make up a meter event."""

    trace_id: str
    span_id: str
    policy: str
    user: str
    quantity: Quantity
    ended_at: float
