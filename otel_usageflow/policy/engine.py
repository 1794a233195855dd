"""The policies at work: from an export request to usage.

A span passes these questions in order, the cheapest first: is it a SERVER span; of a scope that counts; with valid
ids; entering its process; HTTP, or gRPC; on whose endpoint; under which policies. Only what a policy asks for is
decoded.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field

from otel_usageflow.errors import Unavailable
from otel_usageflow.model.attributes import Found, Wanted, name_of, read
from otel_usageflow.model.spans import (
    PARENT_KNOWN,
    PARENT_REMOTE,
    SERVER,
    decode_request,
    ended_ns,
    has_valid_ids,
    parent_of,
)
from otel_usageflow.model.usage import Reason, TraceRequest, UnflaggedSpan, UsageBatch, UsageRecord
from otel_usageflow.policy import arriving, graphql, grpc, http
from otel_usageflow.policy.calls import CallTable, Protocol
from otel_usageflow.policy.match import Selection, holds
from otel_usageflow.policy.nesting import SpanIdentity, drop_inner
from otel_usageflow.policy.paths import Leaf, PathTree
from otel_usageflow.policy.policy import Policy
from otel_usageflow.policy.request import GrpcCall, HttpRequest, Origin
from otel_usageflow.policy.text import plain_text
from otel_usageflow.policy.trace_spans import TraceReader, TraceRule
from otel_usageflow.policy.weighing import of_varying_quantity, weigh
from otel_usageflow.proto.spans.v1.spans_pb2 import ResourceSpans, ScopeSpans, Span

SERVICE = "service.name"
MAX_SEEN = 64
"""Attribute names that a record without a user keeps."""
MAX_NAME_LENGTH = 100
"""Characters that are kept of each."""
_MOST_KEPT = 100_000
"""Policies that are kept for accounts of ingest tokens, about; beyond, they are made anew."""


@dataclass(slots=True)
class _Work:
    """One export request while it is being worked on."""

    batch: UsageBatch
    received_ns: int
    seen: set[SpanIdentity] | None
    """The spans so far, where a span that comes twice is to count once."""
    unmatched: Callable[[HttpRequest], None] | None
    """Told of each request that matched no policy."""
    undecided: list[tuple[Span, Origin]] = field(default_factory=list)
    """SERVER spans that may be the inner ones of a request."""
    put_off: Unavailable | None = None
    """Why the whole has to come again. The rest is looked at all the same, so that it has to come only once."""


class PolicyEngine:
    """All policies of one processor, compiled. Keeps no state between requests; may be used by several threads.

    Args:
        policies: in order of precedence.
        exclude_scopes: instrumentation scopes whose spans are never requests.
        heaviest: the largest number of requests that a span may stand for, where requests are counted by their
            weight; None where each that arrived counts once.
    """

    def __init__(
        self, policies: Sequence[Policy], exclude_scopes: frozenset[str] = frozenset(), heaviest: int | None = None
    ) -> None:
        self.policies = tuple(policies) if heaviest is None else tuple(map(of_varying_quantity, policies))
        """In order of precedence."""
        self._of_accounts: dict[str, PolicyEngine] = {}
        self._excluded = exclude_scopes
        self.heaviest = heaviest
        """The largest weight that is believed; None where requests are counted as they arrive."""
        conditions = {index: policy.conditions for index, policy in enumerate(policies)}
        entries = [(endpoint, index) for index, policy in enumerate(policies) for endpoint in policy.endpoints]
        self._tree = PathTree(entries, lambda chosen: Selection(chosen, conditions))
        calls = [(endpoint, index) for index, policy in enumerate(policies) for endpoint in policy.calls]
        tables = {
            protocol: CallTable(chosen, lambda chosen: Selection(chosen, conditions))
            for protocol in Protocol
            if (chosen := [entry for entry in calls if entry[0].protocol is protocol])
        }
        self._grpc, self._graphql = tables.get(Protocol.GRPC), tables.get(Protocol.GRAPHQL)
        self._span_keys = Wanted(
            http.BASE_KEYS.union(
                grpc.KEYS if self._grpc is not None else (),
                graphql.KEYS if self._graphql is not None else (),
                *(policy.span_keys for policy in policies),
            )
        )
        self.summed = tuple(policy.summed for policy in policies if policy.summed is not None)
        """What is summed over local traces."""
        self._traces = TraceReader(self.summed) if self.summed else None
        self._resource_keys = Wanted(arriving.KEYS.union({SERVICE}, *(policy.resource_keys for policy in policies)))

    def reading_also(self, summed: Sequence[TraceRule]) -> "PolicyEngine":
        """The same policies; of spans, what others sum is kept as well, for requests that those decide about."""
        engine = copy(self)
        engine._of_accounts = {}
        engine._traces = TraceReader([*self.summed, *summed])
        return engine

    def of_account(self, account: str) -> "PolicyEngine":
        """The same policies for spans that an ingest token has put under an account; empty for the own one.

        Those that name another account are about none of these spans.
        """
        engine = self._of_accounts.get(account)
        if engine is None:
            engine = copy(self)
            engine.policies = tuple(policy.of_account(account) for policy in self.policies)
            if len(self._of_accounts) * (len(self.policies) + 1) >= _MOST_KEPT:
                self._of_accounts.clear()
            self._of_accounts[account] = engine
        return engine

    def evaluate(
        self,
        payload: bytes,
        received_ns: int,
        *,
        once: bool = False,
        unmatched: Callable[[HttpRequest], None] | None = None,
    ) -> UsageBatch:
        """Decide what is billed in one or several concatenated `ExportTraceServiceRequest`.

        Args:
            payload: the message, serialized.
            received_ns: now, in nanoseconds since 1970.
            once: count a span that the payload holds twice once. The ledger does this across payloads.
            unmatched: told of each request that matched no policy.

        Raises:
            InvalidData: the payload is no such message.
            Unavailable: it holds a token that cannot be judged yet; it has to come again.
        """
        request = decode_request(payload)
        work = _Work(UsageBatch(), received_ns, set() if once else None, unmatched)
        for resource_spans in request.resource_spans:
            self._read_resource(resource_spans, work)
        if work.undecided:
            inner = drop_inner(work.batch.unflagged)
            for span, origin in work.undecided:
                if (span.trace_id, span.span_id) not in inner:
                    self._bill(span, origin, work)
        if work.put_off is not None:
            raise work.put_off
        return work.batch

    def _read_resource(self, resource_spans: ResourceSpans, work: _Work) -> None:
        resource: Found | None = None
        service = ""
        for scope_spans in resource_spans.scope_spans:
            spans = self._fresh(scope_spans, work)
            scope = scope_spans.scope.name.decode("utf-8", "replace")
            excluded = scope in self._excluded
            servers = [] if excluded else [span for span in spans if span.kind == SERVER]
            if (servers or self._traces is not None) and resource is None:
                resource = self._resource_keys.find(resource_spans.resource.attributes)
                service = plain_text(read(resource, SERVICE)) or ""
            if resource is not None:
                origin = Origin(resource, service, scope, resource_spans.resource.attributes)
                if self._traces is not None:
                    self._traces.read(spans, origin, work.batch, excluded=excluded)
                if servers:
                    arriving.note(work.batch.arrivals, service, resource, servers)
                for span in servers:
                    self._classify(span, origin, work)

    def _fresh(self, scope_spans: ScopeSpans, work: _Work) -> Sequence[Span]:
        """Count the spans, and leave out those that came before, if that is asked for."""
        spans: Sequence[Span] = scope_spans.spans
        if work.seen is not None:
            spans = list(_unseen(spans, work.seen))
        work.batch.spans += len(spans)
        return spans

    def _classify(self, span: Span, origin: Origin, work: _Work) -> None:
        trace_id, span_id = span.trace_id, span.span_id
        if not has_valid_ids(trace_id, span_id) or len(span.parent_span_id) not in (0, 8):
            work.batch.malformed += 1
            return
        flags = span.flags
        if flags & PARENT_KNOWN:
            if flags & PARENT_REMOTE or not parent_of(span):
                self._bill(span, origin, work)
            return
        ended = ended_ns(span)
        work.batch.unflagged.append(UnflaggedSpan(trace_id, span_id, parent_of(span), origin.service, ended))
        work.undecided.append((span, origin))

    def _bill(self, span: Span, origin: Origin, work: _Work) -> None:
        found = self._span_keys.find(span.attributes)
        if not http.is_http(found):
            if self._grpc is not None and grpc.is_grpc(found):
                self._bill_call(GrpcCall(span, found, origin), self._grpc, work)
            return
        batch = work.batch
        batch.requests += 1
        path = http.segments(found, origin.scope)
        leaves = self._tree.by_route(http.route(found)) if path is None else self._tree.by_path(path)
        operations = self._graphql.find(*named) if self._graphql and (named := graphql.operation(found)) else ()
        if leaves or operations:
            request = HttpRequest(span, found, origin, http.method(found), path)
            candidates = _candidates(leaves, request)
            if operations:
                candidates = _merged(candidates, operations, request)
            if self._apply(candidates, request, http.status, work):
                return
        batch.unmatched += 1
        if work.unmatched is not None:
            work.unmatched(HttpRequest(span, found, origin, http.method(found), path))

    def _bill_call(self, call: GrpcCall, table: CallTable, work: _Work) -> None:
        work.batch.requests += 1
        selections = table.find(*grpc.method(call.found))
        if not self._apply(_merged((), selections, call), call, grpc.status, work):
            work.batch.unmatched += 1
            if work.unmatched is not None:
                work.unmatched(call)

    def _apply(
        self,
        candidates: Sequence[int],
        request: HttpRequest,
        status: Callable[[Found], int | str | None],
        work: _Work,
    ) -> bool:
        """Bill a request under these policies; False if none of them matches it."""
        taken: set[str] = set()
        for index in candidates:
            policy = self.policies[index]
            event_name = policy.terms.event_name
            if event_name in taken or (policy.narrowed and not _meets(policy, request, work.batch)):
                continue
            taken.add(event_name)
            if status(request.found) in policy.statuses:
                try:
                    record = _record(policy, request, work.received_ns)
                except Unavailable as error:
                    work.put_off = error
                    continue
                if self.heaviest is not None:
                    record = weigh(record, request.span.trace_state, self.heaviest)
                if record.user is None and request.span.dropped_attributes_count:
                    work.batch.cut_short[policy.terms.policy] += 1
                if policy.summed is None:
                    work.batch.records.append(record)
                else:
                    summed = policy.summed
                    work.batch.trace_requests.append(TraceRequest(record, summed.names, summed.wait_ns))
            else:
                work.batch.unbilled[policy.terms.policy, "status"] += 1
        return bool(taken)


def _candidates(leaves: Sequence[Leaf], request: HttpRequest) -> Sequence[int]:
    """The policies whose endpoint fits, in order; some whose `match` does not hold are left out already."""
    if len(leaves) == 1:
        return leaves[0].of(request.method).pick(request)
    return sorted({index for leaf in leaves for index in leaf.of(request.method).pick(request)})


def _merged(candidates: Sequence[int], selections: Sequence[Selection], request: HttpRequest) -> Sequence[int]:
    return sorted({*candidates, *(index for selection in selections for index in selection.pick(request))})


def _meets(policy: Policy, request: HttpRequest, batch: UsageBatch) -> bool:
    """Whether a request meets a policy's `match`; a condition that fails is not met, and is counted."""
    if not holds(policy.conditions, request):
        return False
    if policy.condition is not None:
        result = policy.condition.holds(request)
        if result is None:
            batch.failed_conditions[policy.terms.policy] += 1
        if not result:
            return False
    if policy.foreign:
        batch.others_policies[policy.terms.policy] += 1
    return not policy.foreign


def _record(policy: Policy, request: HttpRequest, received_ns: int) -> UsageRecord:
    user, source = policy.user(request)
    quantity = policy.quantity if policy.quantity is not None else policy.measure(request)
    span = request.span
    ended = ended_ns(span)
    reason: Reason | None = None
    seen: tuple[str, ...] = ()
    if user is None:
        reason, seen = Reason.NO_USER, _names(span)
    elif quantity is None and policy.summed is None:
        reason = Reason.BAD_QUANTITY
    return UsageRecord(
        span.trace_id,
        span.span_id,
        ended,
        min(ended, received_ns),
        policy.terms,
        user,
        source,
        quantity,
        policy.payload(request) if policy.payload_keys else (),
        reason,
        seen,
        policy.identify.digest(request) if policy.identify is not None else b"",
    )


def _names(span: Span) -> tuple[str, ...]:
    """The names of the attributes that the span carries, bounded, sorted."""
    names = {name_of(raw)[:MAX_NAME_LENGTH] for raw in span.attributes[: 4 * MAX_SEEN]}
    return tuple(sorted(names - {""})[:MAX_SEEN])


def _unseen(spans: Sequence[Span], seen: set[SpanIdentity]) -> Iterator[Span]:
    for span in spans:
        identity = (span.trace_id, span.span_id)
        if has_valid_ids(*identity):
            if identity in seen:
                continue
            seen.add(identity)
        yield span
