"""Usage: what the policies make of spans, and what the ledger keeps.

These are named tuples, not dataclasses, because one is made for every billable span: creating a frozen
dataclass of this size costs four times as much.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from otel_usageflow.model.arrivals import Arrivals
from otel_usageflow.model.caller import Caller
from otel_usageflow.model.tally import Tally

Quantity = int | Decimal
"""An exact amount. Never a float."""


class Reason(StrEnum):
    """Why usage is in quarantine. The words are part of the contract."""

    NO_USER = "no_user"
    NO_CUSTOMER = "no_customer"
    AMBIGUOUS_CUSTOMER = "ambiguous_customer"
    NO_METER = "no_meter"
    BAD_QUANTITY = "bad_quantity"
    TOO_OLD = "too_old"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a policy says about every request that it bills.

    One object a policy, shared by all of its records.
    """

    policy: str
    event_name: str
    metadata_field: str | None
    """The Stripe customer metadata field that holds the user, or None when the user is a customer id."""
    account: str | None = None
    """The Stripe connected account, or None for the exporter's."""
    quantity: Quantity | None = 1
    """What every request counts, or None if each is measured."""


class UsageRecord(NamedTuple):
    """One billable span under one policy.

    `reason` is set when it is already clear that the record cannot be billed; then `user` or `quantity` may
    be None. The identity of the charge is (account, event name, trace id, span id).
    """

    trace_id: bytes
    """16 bytes."""
    span_id: bytes
    """8 bytes."""
    ended_ns: int
    """The span's end as it was on the wire, in nanoseconds since 1970. Part of where the record is filed."""
    at_ns: int
    """The moment that is billed: the span's end, or the time of receipt if the end lies in the future."""
    terms: Terms
    user: str | None
    source: str | None
    """Where the user was found, for example `header x-account-id`."""
    quantity: Quantity | None
    payload: tuple[tuple[str, str], ...] = ()
    """Further keys for the meter event, sorted by key."""
    reason: Reason | None = None
    seen: tuple[str, ...] = ()
    """For a record without a user: the names (never the values) of the attributes that the span carried."""
    request_id: bytes = b""
    """Digest of the request's id, 16 bytes, where the policy names an id and the span has it; otherwise empty."""


class UnflaggedSpan(NamedTuple):
    """A SERVER span whose SDK did not say whether its parent is remote (`Span.flags` bit 8 is 0).

    If its parent turns out to be a SERVER span of the same service, the two are one request, and the parent
    is the one that counts. The parent may arrive before, with, or after it.
    """

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    """8 bytes, or empty for a root."""
    service: str
    """The resource's `service.name`."""
    ended_ns: int


class TraceSpan(NamedTuple):
    """A span that may hold a part of a request's quantity, or that leads from such a span to its request.

    Only where a policy sums over a request's local trace (`quantity: {from: trace}`).
    """

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    """8 bytes, or empty for a root."""
    service: str
    """The resource's `service.name`."""
    entry: bool | None
    """Whether the span enters its process, as requests do; None for a SERVER span whose SDK does not say."""
    ended_ns: int
    amounts: tuple[tuple[str, Quantity | None], ...] = ()
    """(attribute that a policy sums, its exact number), sorted; None for a value that cannot be billed."""


class TraceRequest(NamedTuple):
    """A request whose quantity is summed over its local trace, and is not known before that is complete."""

    record: UsageRecord
    """Without a quantity; a reason only where there is no user."""
    keys: tuple[str, ...]
    """The attributes that are summed."""
    wait_ns: int
    """How long after the request's end, and its arrival, spans of its trace are waited for, in nanoseconds."""


@dataclass(slots=True)
class UsageBatch:
    """What the policies made of one export request."""

    records: list[UsageRecord] = field(default_factory=list)
    unflagged: list[UnflaggedSpan] = field(default_factory=list)
    """Every SERVER span of unknown nesting, whether or not a policy matched it."""
    trace_requests: list[TraceRequest] = field(default_factory=list)
    trace_spans: list[TraceSpan] = field(default_factory=list)
    """Every span of the services of which a policy sums local traces, requests included."""
    spans: int = 0
    requests: int = 0
    unmatched: int = 0
    unbilled: Tally[tuple[str, str]] = field(default_factory=Tally)
    """(policy, rule that said no) -> requests; the rule is `status`, and in a preview also `request_id`."""
    failed_conditions: Tally[str] = field(default_factory=Tally)
    """Policy -> requests of which its condition could say neither true nor false, so that it took them not."""
    cut_short: Tally[str] = field(default_factory=Tally)
    """Policy -> records without a user whose span says that attributes of it were dropped."""
    redacted: Tally[str] = field(default_factory=Tally)
    """Policy -> records without a user of which the span has a placeholder in its place."""
    arrivals: dict[str, Arrivals] = field(default_factory=dict)
    """Service -> what its SERVER spans tell of requests that did not arrive."""
    malformed: int = 0
    """Spans without a valid trace or span id: they have no identity, so they cannot be billed once."""
    others_policies: Tally[str] = field(default_factory=Tally)
    """Policy with an account of its own -> requests that fit it and came with the token of another account."""
    caller: Caller | None = None
    """Whose token the request came with. Nothing of it may meet what came with another's, or with none."""
