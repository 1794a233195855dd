"""Reads recorded spans once, a piece at a time, and counts what policies could bill by.

Memory is fixed, whatever the input: so many endpoints, places, spans that are remembered as seen, and spans that
wait for their parent. A SERVER span whose SDK does not flag its parent is the inner one of a request if its parent is
a SERVER span of the same service within so many of them; it is counted when that is decided.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from otel_usageflow.model.attributes import Wanted, name_of, read
from otel_usageflow.model.spans import (
    PARENT_KNOWN,
    PARENT_REMOTE,
    SERVER,
    Span,
    decode_request,
    ended_ns,
    has_valid_ids,
    parent_of,
)
from otel_usageflow.policy import arriving
from otel_usageflow.policy.discovery import template as templates
from otel_usageflow.policy.discovery.asked import KEYS, Asked, asked
from otel_usageflow.policy.discovery.count import OTHERS, Findings, PlaceCount
from otel_usageflow.policy.discovery.doubles import Doubles, Report
from otel_usageflow.policy.discovery.endpoints import Endpoints
from otel_usageflow.policy.discovery.facts import HEADERS, Fact, Facts, Place, of_path
from otel_usageflow.policy.text import MAX_USER_LENGTH, plain_text
from otel_usageflow.proto.spans.v1.spans_pb2 import ResourceSpans

MOST_PLACES: Final = 400
MOST_WAITING: Final = 5_000
"""SERVER spans that wait for their parent."""
MOST_REMEMBERED: Final = 100_000
"""SERVER spans that are known when they come again, or as a parent."""
MOST_WAITING_FACTS: Final = 50_000
"""What all of them hold that could name a user."""
MOST_NAMES: Final = 200
"""Services, and instrumentation scopes; those beyond are `OTHERS`."""
LONGEST_NAME: Final = 200
"""Characters of their names; longer ones are `OTHERS`."""
_SERVICE: Final = Wanted({"service.name"})


@dataclass(slots=True)
class _Seen:
    """One request, with all that is counted of it."""

    asked: Asked
    """Its path only as far as it can hold a user."""
    trace_id: bytes
    where: int
    report: Report
    facts: dict[Place, Fact]
    """But for those in the path: what is a parameter there may turn out later."""


@dataclass(slots=True)
class _Resource:
    service: str
    facts: dict[Place, Fact]


class Survey:
    """Counts what spans hold.

    Args:
        values: keep a few of the values that could name users; otherwise only hashes of them are kept.
        widest: distinct words that may stand at one place of a path; with more of them it is a parameter.
    """

    def __init__(self, *, values: bool = False, widest: int = templates.WIDEST) -> None:
        self._values = values
        self._found = Findings()
        self._wanted = Wanted(KEYS)
        self._facts = Facts()
        self._endpoints = Endpoints(widest)
        self._doubles = Doubles()
        self._spans: dict[tuple[bytes, bytes], str] = {}
        """SERVER spans so far -> their service."""
        self._services: dict[str, str] = {}
        self._scopes: dict[str, str] = {}
        self._waiting: deque[tuple[tuple[bytes, bytes], str, _Seen]] = deque()
        """Parent, service, request."""
        self._waiting_facts = 0

    @property
    def spans(self) -> int:
        """Spans so far."""
        return self._found.spans

    @property
    def requests(self) -> int:
        """Requests so far, but for those that wait for their parent."""
        return self._found.requests

    @property
    def endpoints(self) -> int:
        """Endpoints so far."""
        return len(self._endpoints.known)

    def add(self, payload: bytes) -> None:
        """Count one or several concatenated `ExportTraceServiceRequest`.

        Raises:
            InvalidData: the payload is no such message.
        """
        for resource_spans in decode_request(payload).resource_spans:
            self._read(resource_spans)

    def finish(self) -> Findings:
        """What was found; nothing may be added afterwards."""
        while self._waiting:
            self._decide()
        found, endpoints = self._found, self._endpoints
        endpoints.finish()
        found.endpoints, found.further, found.not_found = endpoints.known, endpoints.further, endpoints.not_found
        found.doubled, found.crossed = self._doubles.doubled, self._doubles.crossed
        return found

    def _read(self, resource_spans: ResourceSpans) -> None:
        resource: _Resource | None = None
        for scope_spans in resource_spans.scope_spans:
            scope = _kept(scope_spans.scope.name.decode("utf-8", "replace"), self._scopes)
            self._found.spans += len(scope_spans.spans)
            for span in scope_spans.spans:
                if span.kind != SERVER:
                    continue
                if resource is None:
                    attributes = resource_spans.resource.attributes
                    name = plain_text(read(_SERVICE.find(attributes), "service.name")) or ""
                    service = _kept(name, self._services)
                    resource = _Resource(service, self._facts.of_resource(attributes))
                self._classify(span, resource, scope)

    def _classify(self, span: Span, resource: _Resource, scope: str) -> None:
        identity = (span.trace_id, span.span_id)
        if not has_valid_ids(*identity):
            self._found.malformed += 1
            return
        if identity in self._spans:
            return
        self._spans[identity] = resource.service
        if len(self._spans) > MOST_REMEMBERED:
            del self._spans[next(iter(self._spans))]
        arriving.note(self._found.arrivals, resource.service, {}, (span,))
        self._found.cut_short += span.dropped_attributes_count > 0
        parent = parent_of(span)
        if span.flags & PARENT_KNOWN and parent and not span.flags & PARENT_REMOTE:
            self._found.nested += 1
            return
        seen = self._seen(span, resource, scope)
        if seen is None:
            self._found.no_http += 1
        elif parent and not span.flags & PARENT_KNOWN and parent != span.span_id:
            self._waiting.append(((span.trace_id, parent), resource.service, seen))
            self._waiting_facts += len(seen.facts)
            while len(self._waiting) > MOST_WAITING or self._waiting_facts > MOST_WAITING_FACTS:
                self._decide()
        else:
            self._count(seen)

    def _decide(self) -> None:
        parent, service, seen = self._waiting.popleft()
        self._waiting_facts -= len(seen.facts)
        if self._spans.get(parent) == service:
            self._found.nested += 1
        else:
            self._count(seen)

    def _seen(self, span: Span, resource: _Resource, scope: str) -> _Seen | None:
        found = self._wanted.find(span.attributes)
        request = asked(found, scope)
        if request is None:
            return None
        facts = self._facts.of_request(span.attributes, found, scope)
        if not self._found.headers:
            self._found.headers = any(name_of(raw).startswith(HEADERS) for raw in span.attributes)
        path = request.path
        return _Seen(
            request._replace(path=_bounded(path or ())),
            span.trace_id,
            hash((request.method, request.template if path is None else tuple(path))),
            Report(resource.service, scope, span.start_time_unix_nano, ended_ns(span)),
            {**resource.facts, **facts},
        )

    def _count(self, seen: _Seen) -> None:
        found = self._found
        found.requests += 1
        found.scopes[seen.report.service, seen.report.scope] += 1
        crossed = self._doubles.add(seen.trace_id, seen.where, seen.report)
        request = seen.asked
        if request.template is None:
            found.without_path += 1
            self._places(seen.facts)
            return
        lost = request.status == 404 and not request.routed
        template, endpoint = self._endpoints.find(request.method, request.template, routed=request.routed, lost=lost)
        facts = {**seen.facts, **of_path(request.path or (), template)}
        self._places(facts)
        if endpoint is None:
            return
        endpoint.requests += 1
        endpoint.statuses[request.status] += 1
        endpoint.services[seen.report.service] += 1
        endpoint.usable.update(
            place for place, fact in facts.items() if fact.text is not None and place in found.places
        )
        endpoint.of_framework |= request.routed
        if crossed is not None:
            endpoint.shared |= {crossed, seen.report.service}

    def _places(self, facts: dict[Place, Fact]) -> None:
        found = self._found
        for place, fact in facts.items():
            if place not in found.places and len(found.places) >= MOST_PLACES:
                found.unnamed += 1
                continue
            found.places.setdefault(place, PlaceCount()).add(fact, keep_value=self._values and not place.secret)


def _kept(name: str, names: dict[str, str]) -> str:
    """The name, always the same object; `OTHERS` where there is no room for it."""
    if len(names) < MOST_NAMES and len(name) <= LONGEST_NAME:
        return names.setdefault(name, name)
    return names.get(name, OTHERS)


def _bounded(path: Sequence[str]) -> tuple[str, ...]:
    """What is longer is no user, and one character more says so."""
    return tuple(text[: MAX_USER_LENGTH + 1] for text in path[: templates.DEEPEST])
