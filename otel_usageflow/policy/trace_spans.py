"""Which spans of an export request may hold parts of a request's quantity, where policies sum over local traces."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from otel_usageflow.model.attributes import Wanted
from otel_usageflow.model.spans import PARENT_KNOWN, PARENT_REMOTE, SERVER, Span, ended_ns, has_valid_ids, parent_of
from otel_usageflow.model.usage import Quantity, TraceSpan, UsageBatch
from otel_usageflow.policy.request import Origin
from otel_usageflow.policy.tokens import ABSENT, Summand

CONSUMER: Final = 5
"""`SpanKind` of the side of a queue that takes a message off it."""


@dataclass(frozen=True, slots=True)
class TraceRule:
    """What one policy sums over the local traces of its requests."""

    summands: tuple[Summand, ...]
    scopes: frozenset[str] | None
    """The instrumentation scopes whose spans count, or None for all."""
    services: frozenset[str] | None
    """The services whose requests the policy bills, or None for all."""
    wait_ns: int

    @property
    def names(self) -> tuple[str, ...]:
        """What is summed, as `TraceSpan.amounts` names it."""
        return tuple(one.name for one in self.summands)


class TraceReader:
    """Reads spans for all policies of a processor that sum over local traces."""

    def __init__(self, rules: Sequence[TraceRule]) -> None:
        everywhere = [one for rule in rules if rule.scopes is None for one in rule.summands]
        self._everywhere = _sorted(everywhere)
        self._by_scope = {
            scope: _sorted(
                [*everywhere, *(one for rule in rules if scope in (rule.scopes or ()) for one in rule.summands)]
            )
            for scope in {scope for rule in rules for scope in rule.scopes or ()}
        }
        self._wanted = Wanted(frozenset[str]().union(*(one.keys for rule in rules for one in rule.summands)))
        named = [rule.services for rule in rules if rule.services is not None]
        self._services = frozenset[str]().union(*named) if len(named) == len(rules) else None

    def read(self, spans: Sequence[Span], origin: Origin, batch: UsageBatch, *, excluded: bool = False) -> None:
        """Add the spans of one scope to the batch, whatever their kind: those without an amount lead to others.

        Args:
            spans: of one scope.
            origin: that scope.
            batch: takes them.
            excluded: the spans of this scope are never requests; what they lead to is another span's.

        Raises:
            InvalidData: an attribute is no `KeyValue`.
        """
        if self._services is not None and origin.service not in self._services:
            return
        summands = self._by_scope.get(origin.scope, self._everywhere)
        for span in spans:
            if not has_valid_ids(span.trace_id, span.span_id) or len(span.parent_span_id) not in (0, 8):
                batch.malformed += span.kind != SERVER  # those are counted where requests are found
                continue
            parent, entry = parent_of(span), enters(span)
            if excluded and entry is not False:
                # The request is a span beside it, which nothing on the wire says. With itself as its parent its chain
                # breaks: what is below goes to its service's only request, and never to a caller in the same trace.
                parent, entry = span.span_id if entry or not parent else parent, False
            amounts = self._amounts(span, summands)
            batch.trace_spans.append(
                TraceSpan(span.trace_id, span.span_id, parent, origin.service, entry, ended_ns(span), amounts)
            )

    def _amounts(self, span: Span, summands: Sequence[Summand]) -> tuple[tuple[str, Quantity | None], ...]:
        found = self._wanted.find(span.attributes)
        if not found:
            return ()
        amounts = ((one.name, one.amount(found)) for one in summands)
        return tuple((name, amount) for name, amount in amounts if amount is not ABSENT)


def enters(span: Span) -> bool | None:
    """Whether a span enters its process, so that nothing above it is local; None if its SDK does not say.

    A message that is taken off a queue enters, too. What has no parent begins a local trace of its own, but only
    that of a SERVER span can be a request's.
    """
    if span.kind == SERVER and not span.flags & PARENT_KNOWN:
        return None
    if not parent_of(span):
        return span.kind == SERVER
    if span.flags & PARENT_KNOWN:
        return bool(span.flags & PARENT_REMOTE)
    return span.kind == CONSUMER


def _sorted(summands: Iterable[Summand]) -> tuple[Summand, ...]:
    by_name = {one.name: one for one in summands}
    return tuple(by_name[name] for name in sorted(by_name))
