"""`preview` on spans that real servers sent in situations that are no plain request; see docs/requests.md.

How they were recorded: tests/captures/situations/record.py.
"""

from pathlib import Path
from typing import Any

import pytest
from span_builder import NOW, engine, policy

from otel_usageflow.policy.preview import Preview, preview

SITUATIONS = Path(__file__).parents[1] / "captures" / "situations"


def billed(name: str, **changes: Any) -> Preview:
    """What a policy makes of a recording."""
    return preview(engine(policy(**changes)), (SITUATIONS / f"{name}.pb").read_bytes(), NOW)


def requests(name: str, **changes: Any) -> int:
    return sum(line.requests for line in billed(name, **changes).usage)


@pytest.mark.parametrize(
    ("method", "count"), [("shop.Orders/Get", 3), ("shop.Orders/Watch", 0), ("shop.Orders/*", 3), ("*", 3)]
)
def test_grpc_calls(method: str, count: int) -> None:
    """Answered calls with an account are billed; one that broke is, too, because Python's span calls it OK."""
    found = billed("grpc_calls", endpoint=f"grpc {method}")
    assert sum(line.requests for line in found.usage) == count
    assert found.requests == 7  # a method that the server does not have makes no span


def test_grpc_calls_that_are_refused() -> None:
    """By name, and the one whose server said that it broke; without an account is nobody."""
    refused = billed("grpc_calls", endpoint="grpc *", status=["NOT_FOUND", "UNKNOWN"])
    assert [(line.user, line.requests) for line in refused.usage] == [("acme", 2)]
    nobody = billed("grpc_calls", endpoint="grpc shop.Orders/*").quarantined
    assert nobody == [("chat", "no_user", 2)]


def test_grpc_calls_are_no_http_requests() -> None:
    """Without a gRPC endpoint they are not even counted."""
    found = billed("grpc_calls", endpoint="* /**", status="any")
    assert (found.requests, found.usage, found.unmatched_requests) == (0, [], 0)


@pytest.mark.parametrize(
    ("operation", "count"),
    [
        ("query Price", 2),
        ("query *", 4),
        ("* *", 5),
        ("mutation Order", 1),
        ("query Broken", 1),
        ("query Wrong", 0),
        ("subscription *", 0),
    ],
)
def test_graphql_operations(operation: str, count: int) -> None:
    """By type and name; a failing resolver answers 200; what does not even validate is no operation."""
    assert requests("graphql_operations", endpoint=f"graphql {operation}") == count
    assert requests("graphql_operations", endpoint="POST /graphql") == 7


@pytest.mark.parametrize(
    ("endpoint", "status", "count"),
    [
        ("GET /orders", "2xx", 1),
        ("* /orders", "2xx", 3),
        ("GET|HEAD /orders", "2xx", 2),
        ("OPTIONS /orders", "2xx", 1),
        ("GET /healthz", "2xx", 1),
        ("GET /static/**", "2xx", 1),
        ("GET /static/*", "2xx", 1),
        ("GET /old-orders", "2xx", 0),
        ("GET /old-orders", "3xx", 1),
        ("GET /orders", "3xx", 1),
        ("GET /events", "2xx", 1),
        ("GET /endless", "2xx", 1),
        ("GET /broken", "any", 1),
        ("GET /broken", "2xx", 0),
        ("GET /nowhere", "404", 1),
        ("* /**", "2xx", 8),
    ],
)
def test_the_web(endpoint: str, status: str, count: int) -> None:
    """Each line of the table in docs/requests.md: preflights, HEAD, health, files, redirects, streams, failures."""
    assert requests("web_situations", endpoint=endpoint, status=status) == count


def test_all_but_preflights_probes_and_files() -> None:
    """The condition of the page leaves out three of the eight, and the WebSocket, which has no method."""
    condition = "span.method != 'OPTIONS' && span.path != '/healthz' && !span.path.startsWith('/static/')"
    assert requests("web_situations", endpoint="* /**", match={"condition": condition}) == 4


@pytest.mark.parametrize(
    ("endpoint", "status", "count"),
    [("GET /chat", "any", 0), ("* /chat", "2xx", 1), ("* /chat", ["2xx", "101"], 1), ("* /chat", "any", 2)],
)
def test_web_sockets(endpoint: str, status: Any, count: int) -> None:
    """One span for a connection, with neither a method nor 101; one that was refused has no status."""
    assert requests("web_situations", endpoint=endpoint, status=status) == count


def test_a_connection_by_its_duration() -> None:
    """What a conversation costs may be how long it took, in started minutes."""
    minutes = "(span.duration_ns + 59999999999) / 60000000000"
    (line,) = billed("web_situations", endpoint="* /chat", quantity={"expression": minutes}).usage
    assert (line.requests, line.quantity) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 8),
        ({"match": {"service": "shop"}}, 4),
        ({"match": {"service": "proxy"}}, 4),
        ({"request_id": {"header": "x-request-id"}}, 3),
        ({"request_id": {"header": "x-request-id"}, "match": {"service": "shop"}}, 3),
        ({"request_id": {"header": "idempotency-key"}}, 8),
    ],
)
def test_a_proxy_and_its_application(changes: dict[str, Any], count: int) -> None:
    """Four requests are eight spans of two services, in one trace or two; one id was sent twice, as by a retry."""
    assert requests("behind_a_proxy", endpoint="GET /orders", **changes) == count
