"""What recorded spans would cost, added up: the result of `preview`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from otel_usageflow.model.same_request import Candidate, give_way
from otel_usageflow.model.tally import Tally
from otel_usageflow.model.usage import Quantity, UsageBatch, UsageRecord
from otel_usageflow.policy import grpc, http
from otel_usageflow.policy.completeness import Finding, findings
from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.policy.local_trace import complete
from otel_usageflow.policy.quantity import total
from otel_usageflow.policy.request import GrpcCall, HttpRequest
from otel_usageflow.policy.text import decimal_text

Payload = tuple[tuple[str, str], ...]
"""Further keys of meter events, sorted by key."""


class UsagePart(NamedTuple):
    """What of a line of usage has one payload."""

    payload: Payload
    requests: int
    quantity: Quantity


class UsageLine(NamedTuple):
    """What one user costs under one policy."""

    policy: str
    event_name: str
    user: str
    metadata_field: str | None
    requests: int
    quantity: Quantity
    account: str | None
    """The Stripe connected account that the policy names."""
    parts: tuple[UsagePart, ...]
    """The same by what their meter events say besides, sorted."""


class CountLine(NamedTuple):
    """How many requests of one policy were not billed, for one reason."""

    policy: str
    reason: str
    requests: int


@dataclass(slots=True)
class Preview:
    """The bill of recorded spans, and what could not be billed. Lists are sorted."""

    spans: int = 0
    requests: int = 0
    usage: list[UsageLine] = field(default_factory=list)
    quarantined: list[CountLine] = field(default_factory=list)
    unbilled: list[CountLine] = field(default_factory=list)
    unmatched_requests: int = 0
    malformed: int = 0
    """SERVER spans without valid ids, which are no requests."""
    unmatched: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(method, route or path) -> requests that matched no policy."""
    missing: list[Finding] = field(default_factory=list)
    """What says that not all requests are in the input."""
    cut_short: Tally[str] = field(default_factory=Tally)
    """Policy -> requests without a user whose spans say that attributes were dropped."""
    failed_conditions: Tally[str] = field(default_factory=Tally)
    """Policy -> requests about which its condition failed."""
    seen: dict[str, Counter[str]] = field(default_factory=dict)
    """Policy -> the attribute names that its requests without a user carried."""

    def as_json(self) -> dict[str, Any]:
        """The object that `preview --format json` prints."""
        return {
            "spans": self.spans,
            "requests": self.requests,
            "usage": [
                {
                    "policy": line.policy,
                    "event_name": line.event_name,
                    "metadata_field": line.metadata_field,
                    "user": line.user,
                    "requests": line.requests,
                    "quantity": decimal_text(line.quantity),
                }
                for line in self.usage
            ],
            "quarantined": [line._asdict() for line in self.quarantined],
            "unbilled": [line._asdict() for line in self.unbilled],
            "unmatched_requests": self.unmatched_requests,
        }


def preview(engine: PolicyEngine, payload: bytes, now_ns: int) -> Preview:
    """Bill recorded spans, each once; nested spans and local traces are resolved over all of them, age is not judged.

    Args:
        engine: the policies.
        payload: one or several concatenated `ExportTraceServiceRequest`.
        now_ns: in nanoseconds since 1970.

    Raises:
        InvalidData: the payload is no such message.
    """
    result = Preview()

    def unmatched(request: HttpRequest) -> None:
        if isinstance(request, GrpcCall):
            result.unmatched["grpc", grpc.full_method(request.found) or "?"] += 1
            return
        where = http.route(request.found) or "/" + "/".join(request.path or ())
        result.unmatched[request.method or "?", where] += 1

    batch = engine.evaluate(payload, now_ns, once=True, unmatched=unmatched)
    batch.records.extend(complete(batch.trace_spans, batch.trace_requests))
    _leave_out_same_requests(batch)
    _add_up(batch, result)
    result.missing = list(findings(batch.arrivals, adjusted=engine.heaviest is not None))
    result.cut_short = batch.cut_short
    return result


_Key = tuple[str, str, str, str | None, str | None]
"""Policy, event name, user, metadata field, account."""


def _add_up(batch: UsageBatch, result: Preview) -> None:
    result.spans, result.requests = batch.spans, batch.requests
    result.unmatched_requests, result.malformed = batch.unmatched, batch.malformed
    result.failed_conditions = batch.failed_conditions
    amounts: dict[_Key, dict[Payload, list[Quantity]]] = {}
    quarantined: Counter[tuple[str, str]] = Counter()
    for record in batch.records:
        terms = record.terms
        if record.reason is not None or record.user is None or record.quantity is None:
            quarantined[terms.policy, str(record.reason)] += 1
            _note_seen(record, result)
        else:
            key = (terms.policy, terms.event_name, record.user, terms.metadata_field, terms.account)
            amounts.setdefault(key, {}).setdefault(record.payload, []).append(record.quantity)
    result.usage = [_line(key, amounts[key]) for key in sorted(amounts, key=lambda key: key[:3])]
    result.quarantined = [CountLine(*key, quarantined[key]) for key in sorted(quarantined)]
    result.unbilled = [CountLine(*key, batch.unbilled[key]) for key in sorted(batch.unbilled)]


def _leave_out_same_requests(batch: UsageBatch) -> None:
    """Of the records that carry one id, let those count that the ledger would let count."""
    groups: dict[tuple[str | None, str, bytes], dict[int, Candidate]] = {}
    for place, record in enumerate(batch.records):
        if record.request_id:
            group = groups.setdefault((record.terms.account, record.terms.event_name, record.request_id), {})
            order = record.at_ns, record.trace_id + record.span_id
            group[place] = Candidate(order, record.user or "", billable=record.reason is None)
    gone = {place for group in groups.values() for place in give_way(group)}
    for place in gone:
        batch.unbilled[batch.records[place].terms.policy, "request_id"] += 1
    if gone:
        batch.records = [record for place, record in enumerate(batch.records) if place not in gone]


def _line(key: _Key, quantities: Mapping[Payload, Sequence[Quantity]]) -> UsageLine:
    parts = tuple(UsagePart(payload, len(each), total(each)) for payload, each in sorted(quantities.items()))
    whole = total([quantity for each in quantities.values() for quantity in each])
    return UsageLine(*key[:4], sum(part.requests for part in parts), whole, key[4], parts)


def _note_seen(record: UsageRecord, result: Preview) -> None:
    if record.seen:
        result.seen.setdefault(record.terms.policy, Counter()).update(record.seen)
