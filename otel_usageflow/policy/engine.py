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
from otel_usageflow.model.plain_reader import Scopes
from otel_usageflow.model.reader import Reader
from otel_usageflow.model.spans import (
    PARENT_KNOWN,
    PARENT_REMOTE,
    SERVER,
    ReadSpan,
    Span,
    ended_ns,
    has_valid_ids,
    parent_of,
)
from otel_usageflow.model.usage import Reason, TraceRequest, UnflaggedSpan, UsageBatch, UsageRecord
from otel_usageflow.policy import arriving
from otel_usageflow.policy.alike import NOBODY, Budget, Decision, Scene, Scenes
from otel_usageflow.policy.nesting import SpanIdentity, drop_inner
from otel_usageflow.policy.policy import Policy
from otel_usageflow.policy.request import GrpcCall, HttpRequest, Origin
from otel_usageflow.policy.routes import Routes
from otel_usageflow.policy.text import plain_text
from otel_usageflow.policy.trace_spans import TraceReader, TraceRule
from otel_usageflow.policy.weighing import of_varying_quantity, weigh

SERVICE = "service.name"
MAX_SEEN = 64
"""Attribute names that a record without a user keeps."""
MAX_NAME_LENGTH = 100
"""Characters that are kept of each."""
_PLAIN: tuple[object, ...] = tuple(UsageRecord._field_defaults.values())
"""The other values of a record that differs from others by nothing else. Made so, it takes a third of the time."""
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
    scenes: Scenes
    """What is known of the origins of spans."""
    undecided: list[tuple[ReadSpan, Scene]] = field(default_factory=list)
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
        self._excluded = frozenset(scope.encode() for scope in exclude_scopes)
        self.heaviest = heaviest
        """The largest weight that is believed; None where requests are counted as they arrive."""
        self._routes = Routes(policies)
        self.span_keys = self._routes.keys.union(*(policy.span_keys for policy in policies))
        """The span attributes that some policy asks for."""
        self._reader = Reader(Wanted(self.span_keys))
        self._scenes = Scenes(self.policies, Budget())
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
        resources = self._reader.read(payload)
        if self._scenes.policies is not self.policies:  # of a copy, with other policies
            self._scenes = Scenes(self.policies, self._scenes.budget)
        work = _Work(UsageBatch(), received_ns, set() if once else None, unmatched, self._scenes)
        for attributes, scopes in resources:
            self._read_resource(attributes, scopes, work)
        if work.undecided:
            inner = drop_inner(work.batch.unflagged)
            for span, scene in work.undecided:
                if (span.trace_id, span.span_id) not in inner:
                    before = work.batch.requests
                    self._bill(span, scene, work)
                    _note_entered(work, scene, work.batch.requests - before)
        if work.put_off is not None:
            raise work.put_off
        return work.batch

    def _read_resource(self, attributes: Sequence[bytes], scopes: Scopes, work: _Work) -> None:
        for scope, its_spans in scopes:
            spans = its_spans if work.seen is None else list(_unseen(its_spans, work.seen))
            work.batch.spans += len(spans)
            excluded = scope in self._excluded
            servers = [] if excluded else [span for span in spans if span.kind == SERVER]
            if servers or self._traces is not None:
                scene = work.scenes.of(scope, attributes, self._origin)
                origin = scene.origin
                if self._traces is not None:
                    self._traces.read(spans, origin, work.batch, excluded=excluded)
                if servers:
                    arriving.note(work.batch.arrivals, origin.service, origin.resource, servers)
                    before = work.batch.requests
                    for span in servers:
                        self._classify(span, scene, work)
                    _note_entered(work, scene, work.batch.requests - before)

    def _origin(self, scope: bytes, attributes: Sequence[bytes]) -> Origin:
        resource = self._resource_keys.find(attributes)
        service = plain_text(read(resource, SERVICE)) or ""
        return Origin(resource, service, scope.decode("utf-8", "replace"), attributes)

    def _classify(self, span: ReadSpan, scene: Scene, work: _Work) -> None:
        if not span.valid:
            work.batch.malformed += 1
            return
        flags = span.flags
        if flags & PARENT_KNOWN:
            if flags & PARENT_REMOTE or not parent_of(span):
                self._bill(span, scene, work)
            return
        unflagged = UnflaggedSpan(span.trace_id, span.span_id, parent_of(span), scene.origin.service, ended_ns(span))
        work.batch.unflagged.append(unflagged)
        work.undecided.append((span, scene))

    def _bill(self, span: ReadSpan, scene: Scene, work: _Work) -> None:
        said = span.said(self._routes.keys)
        decision = scene.decisions.get(said)
        if decision is None:
            decision = self._routes.decide(self.policies, span, span.find(), scene)
            if said is not None:
                scene.remember(said, decision)
        if decision.plain and work.unmatched is None:
            self._bill_plainly(span, decision, scene, work)
        elif decision.request:
            self._bill_request(_request(span, span.find(), scene.origin, decision), decision, work)

    def _bill_plainly(self, span: ReadSpan, decision: Decision, scene: Scene, work: _Work) -> None:
        """As `_bill_request`, where nothing but the user can differ from a request that said the same."""
        batch = work.batch
        batch.requests += 1
        for step in decision.steps:
            policy = step.policy
            if not step.billed:
                batch.unbilled[policy.terms.policy, "status"] += 1
                continue
            said = span.said(policy.user_keys)
            user, source = step.users.get(said, NOBODY)
            if user is None or self.heaviest is not None:
                request = _request(span, span.find(), scene.origin, decision)
                record = self._bill_one(policy, request, work)
                if record is not None and record.user is not None and said is not None:
                    scene.remember_user(step.users, said, (record.user, record.source))
                continue
            ended, received = ended_ns(span), work.received_ns
            billed = min(received, ended)
            values = (span.trace_id, span.span_id, ended, billed, policy.terms, user, source, policy.quantity)
            batch.records.append(tuple.__new__(UsageRecord, values + _PLAIN))
        if not decision.steps:
            batch.unmatched += 1

    def _bill_request(self, request: HttpRequest, decision: Decision, work: _Work) -> None:
        """Bill a request under the policies that it meets."""
        batch = work.batch
        batch.requests += 1
        taken: set[str] = set()
        for step in decision.steps:
            policy = step.policy
            event_name = policy.terms.event_name
            if event_name in taken or (policy.open and not _meets(policy, request, batch)):
                continue
            taken.add(event_name)
            if step.billed:
                self._bill_one(policy, request, work)
            else:
                batch.unbilled[policy.terms.policy, "status"] += 1
        if not taken:
            batch.unmatched += 1
            if work.unmatched is not None:
                work.unmatched(request)

    def _bill_one(self, policy: Policy, request: HttpRequest, work: _Work) -> UsageRecord | None:
        """Bill a request under one policy; None if it has to come again."""
        try:
            record = _record(policy, request, work.received_ns)
        except Unavailable as error:
            work.put_off = error
            return None
        if self.heaviest is not None:
            record = weigh(record, request.span.trace_state, self.heaviest)
        if record.user is None and request.span.dropped_attributes_count:
            work.batch.cut_short[policy.terms.policy] += 1
        if record.user is None and policy.redacted(request):
            work.batch.redacted[policy.terms.policy] += 1
        if policy.summed is None:
            work.batch.records.append(record)
        else:
            summed = policy.summed
            work.batch.trace_requests.append(TraceRequest(record, summed.names, summed.wait_ns))
        return record


def _note_entered(work: _Work, scene: Scene, requests: int) -> None:
    if requests:
        work.batch.arrivals[scene.origin.service].entered[scene.origin.scope] += requests


def _request(span: Span, found: Found, origin: Origin, decision: Decision) -> HttpRequest:
    if decision.call:
        return GrpcCall(span, found, origin)
    return HttpRequest(span, found, origin, decision.method, decision.path)


def _meets(policy: Policy, request: HttpRequest, batch: UsageBatch) -> bool:
    """Whether a request meets what is open of a policy; a condition that fails is not met, and is counted."""
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


def _unseen(spans: Sequence[ReadSpan], seen: set[SpanIdentity]) -> Iterator[ReadSpan]:
    for span in spans:
        identity = (span.trace_id, span.span_id)
        if has_valid_ids(*identity):
            if identity in seen:
                continue
            seen.add(identity)
        yield span
