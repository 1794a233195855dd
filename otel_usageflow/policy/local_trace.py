"""Which request the spans of a trace belong to, and which of their numbers count: `quantity: {from: trace}`.

The rules, in the order in which they are asked. They look at nothing but the spans of one trace, so neither order
nor batches matter.

Whose is a span?
- A span belongs to the request that the chain of its parents reaches first. A request is the span that enters a
  process (`entry`), of whichever service and whether or not it is billed; so what another service does in the same
  trace is that service's, and never the caller's.
- A chain that ends at a span without a parent that enters no process is work in the background: nobody's.
- A chain that breaks, at a parent that is not known or in a circle, is undecided. If the service of the last span
  that is known has exactly one request in the trace, it is that one's. Otherwise nobody can tell: what it carries
  must be kept where people see it (`strays`), never guessed.

Which numbers count?
- For each attribute by itself: that of a span of which no descendant has the attribute too. So a total that is
  repeated up the tree, by an agent or by the request's own span, counts once, and siblings add up.
- Where a link of the chain is missing, a span outside of that part of the tree may be an ancestor that repeats what
  is inside. A total is known only once all that it sums has ended, so that can be excluded for a span that ended
  before. If it cannot, the number is in doubt, and so is the quantity.
- A number that cannot be billed (None) makes the whole quantity unknown; so does a trace in which no span of the
  request has any of the attributes.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from otel_usageflow.model.usage import Quantity, Reason, TraceRequest, TraceSpan, UsageRecord
from otel_usageflow.policy.quantity import bounded_total
from otel_usageflow.policy.tokens import attribute_of
from otel_usageflow.policy.trace_tree import BACKGROUND, BROKEN, REQUEST, SpanId, Top, TraceTree

Counted = Collection[tuple[SpanId, str]]
"""Spans and attributes that were billed already."""


class Part(NamedTuple):
    """A number that is a part of a quantity."""

    span_id: SpanId
    key: str
    """The attribute."""
    amount: Quantity | None
    """None if it cannot be billed."""
    doubtful: bool = False
    """It may repeat another part, or be repeated by one: a span between them is missing."""


class Share(NamedTuple):
    """What of a trace's numbers a request has."""

    parts: tuple[Part, ...]
    """Sorted by span and attribute; without what was counted before."""
    found: bool
    """Whether any span of the request has any of the attributes, counted before or not."""

    @property
    def quantity(self) -> Quantity | None:
        """The exact sum, or None if it is not known for certain, or too large to be billed."""
        amounts = [part.amount for part in self.parts if part.amount is not None and not part.doubtful]
        return bounded_total(amounts) if self.found and len(amounts) == len(self.parts) else None


class LocalTrace:
    """The spans of one trace, as far as they are known.

    Args:
        spans: all of one trace, in any order; of two with one id the first counts. A request is among them.
    """

    def __init__(self, spans: Iterable[TraceSpan]) -> None:
        self._tree = TraceTree(spans)
        self._amounts = {one: dict(span.amounts) for one, span in self._tree.spans.items() if span.amounts}

    @property
    def requests(self) -> frozenset[SpanId]:
        """The spans that enter a process."""
        return self._tree.requests

    def request_of(self, span_id: SpanId) -> SpanId | None:
        """The request that a known span belongs to; None if it is nobody's, or nobody can tell."""
        top = self._tree.top(span_id)
        return top.end if top.kind == REQUEST else None

    @property
    def undecided(self) -> list[TraceSpan]:
        """The spans with amounts of which nobody can tell whose they are, sorted by id."""
        return self._carrying(BROKEN)

    @property
    def background(self) -> list[TraceSpan]:
        """The spans with amounts that are nobody's, sorted by id."""
        return self._carrying(BACKGROUND)

    def share(self, request: SpanId, keys: Iterable[str], counted: Counted = ()) -> Share:
        """What a request has under these attributes, without what was counted before.

        A span whose ancestor or descendant was counted for an attribute does not count for it any more.
        """
        return self._share(Top(REQUEST, request), keys, counted)

    def strays(self, requests: Iterable[TraceRequest], counted: Counted = ()) -> Iterator[UsageRecord]:
        """What nobody can tell whose it is, as records without a user, under the terms of requests that it may be of.

        One for each span and event name under which requests of its service are billed, with all that any of them
        sums; without a quantity where they would sum different things.
        """
        asked: dict[tuple[str, str, str], list[TraceRequest]] = {}
        for one in sorted(requests, key=lambda one: (one.record.terms.policy, one.record.span_id)):
            span = self._tree.spans.get(one.record.span_id)
            if span is not None:
                place = (span.service, one.record.terms.account or "", one.record.terms.event_name)
                asked.setdefault(place, []).append(one)
        for top in sorted(top for top in self._tree.members if top.kind == BROKEN):
            for (service, _, _), some in sorted(asked.items(), key=lambda item: item[0]):
                yield from self._strays(top, service, some, counted)

    def _strays(
        self, top: Top, service: str, asked: Sequence[TraceRequest], counted: Counted
    ) -> Iterator[UsageRecord]:
        summed = {frozenset(one.keys) for one in asked}
        parts_of: dict[SpanId, list[Part]] = {}
        for part in self._share(top, frozenset[str]().union(*summed), counted).parts:
            parts_of.setdefault(part.span_id, []).append(part)
        for span_id, parts in parts_of.items():
            if self._tree.service_above(span_id) == service:
                same = all(part.key in keys for keys in summed for part in parts)
                yield asked[0].record._replace(
                    span_id=span_id,
                    ended_ns=self._tree.spans[span_id].ended_ns,
                    at_ns=self._tree.spans[span_id].ended_ns,
                    user=None,
                    source=None,
                    quantity=Share(tuple(parts), found=True).quantity if same else None,
                    payload=(),
                    reason=Reason.NO_USER,
                    seen=tuple(sorted({attribute_of(part.key) for part in parts})),
                    request_id=b"",  # it may be another request's
                )

    def _share(self, top: Top, keys: Iterable[str], counted: Counted) -> Share:
        carrying = [one for one in self._tree.members.get(top, ()) if one in self._amounts]
        parts: list[Part] = []
        found = False
        for key in set(keys):
            having = {one: self._amounts[one][key] for one in carrying if key in self._amounts[one]}
            if having:
                found = True
                before = {one for one, name in counted if name == key and self._belongs(one, top)}
                parts.extend(self._parts(top, key, having, before))
        return Share(tuple(sorted(parts, key=lambda part: part[:2])), found)

    def _parts(
        self, top: Top, key: str, having: Mapping[SpanId, Quantity | None], before: Collection[SpanId]
    ) -> Iterator[Part]:
        tree = self._tree
        told = tree.above(top, having) | tree.above(top, before) | tree.below(top, before)
        counting = [one for one in having if one not in told and one not in before]
        doubtful = self._doubtful(top, (*counting, *before))
        for one in counting:
            yield Part(one, key, having[one], one in doubtful)

    def _doubtful(self, top: Top, counting: Iterable[SpanId]) -> set[SpanId]:
        """The spans of which nobody can say that they are neither above nor below another that counts."""
        if top.kind != REQUEST:
            return set()
        tree = self._tree
        places = [_Place(tree.missing_above(one), tree.spans[one].ended_ns, one) for one in counting]
        places = [place for place in places if place.span_id != top.end]  # which is above all of them for certain
        loose = [place for place in places if place.missing is not None]
        if not loose:
            return set()
        latest, earliest = _last_ends(places), _first_ends(loose)
        found = set()
        for missing, ended, one in places:
            above = missing is not None and _elsewhere(latest, missing, -1) >= ended
            if above or _elsewhere(earliest, missing, ended + 1) <= ended:
                found.add(one)
        return found

    def _belongs(self, span_id: SpanId, top: Top) -> bool:
        return span_id in self._tree.spans and self._tree.top(span_id) == top

    def _carrying(self, kind: str) -> list[TraceSpan]:
        ids = [one for one in self._amounts if self._tree.top(one).kind == kind]
        return [self._tree.spans[one] for one in sorted(ids)]


class _Place(NamedTuple):
    """Where a span hangs that counts."""

    missing: bytes | None
    """What its chain breaks at, if it does."""
    ended_ns: int
    span_id: SpanId


_Ends = list[tuple[bytes | None, int]]
"""Of two different parts of the tree."""


def _last_ends(places: Iterable[_Place]) -> _Ends:
    ends: dict[bytes | None, int] = {}
    for place in places:
        ends[place.missing] = max(ends.get(place.missing, place.ended_ns), place.ended_ns)
    return sorted(ends.items(), key=lambda item: -item[1])[:2]


def _first_ends(places: Iterable[_Place]) -> _Ends:
    ends: dict[bytes | None, int] = {}
    for place in places:
        ends[place.missing] = min(ends.get(place.missing, place.ended_ns), place.ended_ns)
    return sorted(ends.items(), key=lambda item: item[1])[:2]


def _elsewhere(ends: _Ends, missing: bytes | None, none: int) -> int:
    """The first of these in another part of the tree than this one."""
    return next((ended for other, ended in ends if other != missing), none)


def complete(spans: Iterable[TraceSpan], requests: Iterable[TraceRequest]) -> list[UsageRecord]:
    """The records of requests with their quantities, as if all waiting were over, and those of strays.

    For what was recorded: the service decides the same, trace by trace, in its own time.
    """
    traces: dict[bytes, list[TraceSpan]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    asked: dict[bytes, list[TraceRequest]] = {}
    for request in requests:
        asked.setdefault(request.record.trace_id, []).append(request)
    records: list[UsageRecord] = []
    for trace_id, waiting in asked.items():
        trace = LocalTrace(traces.get(trace_id, ()))
        records.extend(settled(one, trace.share(one.record.span_id, one.keys)) for one in waiting)
        records.extend(trace.strays(waiting))
    return records


def settled(request: TraceRequest, share: Share) -> UsageRecord:
    """A request's record with its quantity; without a user, that stays the reason."""
    quantity = share.quantity
    reason = request.record.reason
    if reason is None and quantity is None:
        reason = Reason.BAD_QUANTITY
    return request.record._replace(quantity=quantity, reason=reason)
