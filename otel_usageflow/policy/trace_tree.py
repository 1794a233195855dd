"""The tree of one trace's spans: to which request the chain of parents leads from each, and what is above and below.

What a chain can end at, and what that means, is told in `local_trace`.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from otel_usageflow.model.usage import TraceSpan, UnflaggedSpan
from otel_usageflow.policy.nesting import drop_inner

SpanId = bytes
"""8 bytes."""

REQUEST, BROKEN, BACKGROUND = "request", "broken", "background"


class Top(NamedTuple):
    """What chains of parents end at. Spans whose chains end at the same belong together."""

    kind: str
    end: SpanId
    """A request's span; or the parent that is not known; empty for background work."""


class TraceTree:
    """The spans of one trace, as far as they are known, in any order; of two with one id the first counts."""

    def __init__(self, spans: Iterable[TraceSpan]) -> None:
        self.spans: dict[SpanId, TraceSpan] = {}
        for span in spans:
            self.spans.setdefault(span.span_id, span)
        self.requests = _entries(self.spans.values())
        """The spans that enter a process."""
        self._parents = _parents(self.spans, self.requests)
        self._highest = self._find_highest()
        self._only = self._find_only()
        self.members: dict[Top, list[SpanId]] = {}
        """What belongs together, each sorted."""
        for one in sorted(self.spans):
            self.members.setdefault(self.top(one), []).append(one)

    def top(self, span_id: SpanId) -> Top:
        """What a known span belongs to."""
        highest = self._highest[span_id]
        if highest in self.requests:
            return Top(REQUEST, highest)
        missing = self.spans[highest].parent_span_id
        if not missing:
            return Top(BACKGROUND, b"")
        only = self._only.get(self.spans[highest].service)
        return Top(BROKEN, missing) if only is None else Top(REQUEST, only)

    def missing_above(self, span_id: SpanId) -> SpanId | None:
        """The id at which the chain of a span's parents breaks; None if it leads to its end."""
        highest = self._highest[span_id]
        return None if highest in self.requests else self.spans[highest].parent_span_id or None

    def service_above(self, span_id: SpanId) -> str:
        """The service of the last span that is known above a span."""
        return self.spans[self._highest[span_id]].service

    def parent(self, span_id: SpanId, top: Top) -> SpanId | None:
        """A span's parent within what belongs together; what hangs in the air hangs under the request's own span."""
        parent = self._parents[span_id]
        if parent is None and top.kind == REQUEST and span_id != top.end:
            return top.end
        return parent

    def above(self, top: Top, below: Iterable[SpanId]) -> set[SpanId]:
        """All ancestors of these spans within what belongs together."""
        found: set[SpanId] = set()
        for one in below:
            parent = self.parent(one, top)
            while parent is not None and parent not in found:
                found.add(parent)
                parent = self.parent(parent, top)
        return found

    def below(self, top: Top, above: Collection[SpanId]) -> set[SpanId]:
        """All descendants of these spans within what belongs together."""
        if not above:
            return set()
        children: dict[SpanId, list[SpanId]] = {}
        for one in self.members[top]:
            parent = self.parent(one, top)
            if parent is not None:
                children.setdefault(parent, []).append(one)
        found: set[SpanId] = set()
        waiting = list(above)
        while waiting:
            for child in children.get(waiting.pop(), ()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return found

    def _find_highest(self) -> dict[SpanId, SpanId]:
        """Of each span the last that is known of its chain: a request, or one without a known parent."""
        found: dict[SpanId, SpanId] = {}
        for start in self.spans:
            path = [start]
            while path[-1] not in found:
                parent = self._parents[path[-1]]
                if parent is None:
                    found[path[-1]] = path[-1]
                else:
                    path.append(parent)
            end = found[path[-1]]
            found.update(dict.fromkeys(path, end))
        return found

    def _find_only(self) -> dict[str, SpanId]:
        """The requests that are the only ones of their service."""
        by_service: dict[str, list[SpanId]] = {}
        for one in self.requests:
            by_service.setdefault(self.spans[one].service, []).append(one)
        return {service: found[0] for service, found in by_service.items() if len(found) == 1}


def _entries(spans: Collection[TraceSpan]) -> frozenset[SpanId]:
    """The spans that enter a process; where the SDK does not say, the rule for SERVER spans within each other."""
    unflagged = [
        UnflaggedSpan(span.trace_id, span.span_id, span.parent_span_id, span.service, span.ended_ns)
        for span in spans
        if span.entry is None
    ]
    inner = {span_id for _, span_id in drop_inner(unflagged)} if unflagged else set()
    return frozenset(
        span.span_id for span in spans if span.entry or (span.entry is None and span.span_id not in inner)
    )


def _parents(spans: Mapping[SpanId, TraceSpan], requests: Collection[SpanId]) -> dict[SpanId, SpanId | None]:
    """The known parent of each span that is no request; a circle is cut at its smallest id."""
    parents = {
        one: span.parent_span_id if one not in requests and span.parent_span_id in spans else None
        for one, span in spans.items()
    }
    done: set[SpanId] = set()
    for start in spans:
        path: dict[SpanId, None] = {}
        one: SpanId | None = start
        while one is not None and one not in done and one not in path:
            path[one] = None
            one = parents[one]
        if one is not None and one in path:
            walked = list(path)
            parents[min(walked[walked.index(one) :])] = None
        done.update(path)
    return parents
