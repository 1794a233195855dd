"""What is a request and what is none, from what the conventions and other people's servers write down.

Built by the reference, and not recorded: Envoy, Istio, otelgin, Next.js, Node and functions. See docs/requests.md.
"""

from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from span_builder import LOCAL, NOW, REMOTE, engine, http, judge, payload, policy, span

from otel_usageflow.policy.preview import Preview, preview

ACME = {"http.request.header.x-account-id": "acme"}
EVERYTHING = policy(endpoint="* /**", status="any")


def taken(attributes: Any, **changes: Any) -> int:
    return len(judge({**attributes, **ACME}, policy(**changes)).records)


def previewed(*payloads: bytes, exclude_scopes: tuple[str, ...] = (), **changes: Any) -> Preview:
    return preview(engine(policy(**changes), exclude_scopes=exclude_scopes), b"".join(payloads), NOW)


def billed(*payloads: bytes, **changes: Any) -> int:
    return sum(line.requests for line in previewed(*payloads, **changes).usage)


@pytest.mark.parametrize("status", [None, "0", 0, "", "-", 99, 600, "abc", [200, 500]])
def test_no_status(status: Any) -> None:
    """A request that ended without a status, or with one that is none (Envoy's 0), is billed under `any` only."""
    attributes = http(status=None) | ({} if status is None else {"http.response.status_code": status})
    assert taken(attributes, status="any") == 1
    assert taken(attributes, status=["1xx", "2xx", "3xx", "4xx", "5xx"]) == 0


def test_status_as_text() -> None:
    """Envoy writes all values as text."""
    assert taken({"http.method": "POST", "http.url": "http://shop/chat", "http.status_code": "200"}) == 1


@pytest.mark.parametrize(
    ("endpoint", "methods"),
    [
        ("GET /chat", {"GET"}),
        ("* /chat", {"GET", "HEAD", "OPTIONS", "POST", "TRACE", None}),
        ("GET|HEAD /chat", {"GET", "HEAD"}),
    ],
)
def test_methods(endpoint: str, methods: set[str | None]) -> None:
    """GET is not HEAD, and `*` is every method: preflights and probes, too, and a request without a method."""
    found = set()
    for method in ("GET", "HEAD", "OPTIONS", "POST", "TRACE", None):
        attributes = {key: value for key, value in http(method=method or "").items() if value}
        found |= {method} if taken(attributes, endpoint=endpoint) else set()
    assert found == methods


@pytest.mark.parametrize(
    ("status", "rule", "count"), [(101, "2xx", 0), (101, ["2xx", "101"], 1), (101, "1xx", 1), (301, "2xx", 0)]
)
def test_upgrades_and_redirects(status: int, rule: Any, count: int) -> None:
    """A WebSocket that is told as 101, and a redirect, are billed where the status rule says so."""
    assert taken(http(status=status), status=rule) == count


def test_a_stream_is_billed_when_it_ends() -> None:
    """A connection of hours is one request, stamped with its end, and its duration can be its price."""
    hours = 3 * 3_600 * 10**9
    seconds = policy(quantity={"expression": "span.duration_ns / 1000000000"})
    batch = engine(seconds).evaluate(payload(span(http() | ACME, start=NOW - hours, end=NOW)), NOW)
    (record,) = batch.records
    assert (record.at_ns, record.quantity) == (NOW, 10_800)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        (Span.SPAN_KIND_CONSUMER, {"messaging.system": "kafka", "messaging.operation.type": "process"}),
        (Span.SPAN_KIND_CLIENT, http()),
        (Span.SPAN_KIND_INTERNAL, http() | {"asgi.event.type": "http.response.start"}),
        (Span.SPAN_KIND_SERVER, {"faas.trigger": "timer", "faas.invocation_id": "1"}),
        (Span.SPAN_KIND_SERVER, {"messaging.system": "kafka"}),
        (Span.SPAN_KIND_SERVER, {}),
    ],
)
def test_what_is_no_request(kind: Any, attributes: dict[str, Any]) -> None:
    """Messages, outgoing calls, inner spans and functions without HTTP are not even counted."""
    batch = engine(EVERYTHING).evaluate(payload(span(attributes | ACME, kind=kind)), NOW)
    assert (batch.requests, batch.records, batch.unmatched) == (0, [], 0)


def test_a_function_behind_http_is_a_request() -> None:
    """A function whose span says what was asked for over HTTP is one like any other."""
    assert taken(http() | {"faas.trigger": "http"}) == 1


def test_a_span_inside_of_a_span_is_the_same_request() -> None:
    """A mounted application, WSGI under Flask, Next.js in Node: the inner span has a local parent."""
    outer = span(http() | ACME, number=1, parent=b"caller--", flags=REMOTE)
    inner = span(http() | ACME, number=2, parent=1, flags=LOCAL)
    assert billed(payload(outer, inner)) == billed(payload(inner, outer)) == 1


def test_siblings_are_told_apart_by_their_scope() -> None:
    """otelgin in otelhttp: two spans of one remote parent are two requests until a scope is excluded."""
    outer = payload(span(http() | ACME, number=1, parent=b"caller--"), scope="otelhttp")
    inner = payload(span(http() | ACME, number=2, parent=b"caller--"), scope="otelgin")
    assert billed(outer, inner) == 2
    assert billed(outer, inner, exclude_scopes=("otelgin",)) == 1
    assert billed(outer, inner, match={"scope": "otelhttp"}) == 1


def istio(request_id: str, first: int) -> list[bytes]:
    """A gateway, the sidecar of the application and the application, as Istio makes of one request."""
    envoy = {
        "component": "proxy",
        "guid:x-request-id": request_id,
        "http.method": "POST",
        "http.url": "http://shop.example/chat",
        "http.status_code": "200",
    }
    app = http() | ACME | {"http.request.header.x-request-id": [request_id]}
    return [
        payload(span(envoy, number=first), service="gateway", scope="envoy"),
        payload(span(envoy, number=first + 1, parent=first), service="shop.default", scope="envoy"),
        payload(span(app, number=first + 2, parent=first + 1), service="shop"),
    ]


def test_a_chain_of_proxies() -> None:
    """Envoy's spans are requests of other services: `match.service` picks one, or the request's id makes them one."""
    spans = [*istio("r1", 1), *istio("r2", 11)]
    without = previewed(*spans)
    assert (without.requests, without.quarantined[0].requests, without.usage[0].requests) == (6, 4, 2)
    alone = previewed(*spans, match={"service": "shop"})
    assert (alone.quarantined, alone.usage[0].requests) == ([], 2)
    rule = [{"header": "x-request-id"}, {"attribute": "guid:x-request-id"}]
    one = previewed(*spans, request_id=rule)
    assert (one.quarantined, one.usage[0].requests, one.unbilled) == ([], 2, [("chat", "request_id", 4)])


def test_one_service_that_calls_another() -> None:
    """Two services of one's own are two requests, which is right where both are billed, and else `match.service`."""
    edge = payload(span(http() | ACME, number=1), service="edge")
    inner = payload(span(http("/chat") | ACME, number=3, parent=1), service="inner")
    assert billed(edge, inner) == 2
    assert billed(edge, inner, match={"service": "edge"}) == 1
