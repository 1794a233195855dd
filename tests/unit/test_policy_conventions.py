"""One request, however an instrumentation writes it, is the same usage. Facts: reference, section 3."""

import pytest
from span_builder import http, judge, only, payload, policy, span

from otel_usageflow.policy.engine import PolicyEngine

NEW = {"http.request.method": "POST", "url.path": "/chat", "url.query": "a=1", "http.response.status_code": 200}
OLD = {"http.method": "POST", "http.target": "/chat?a=1", "http.status_code": 200}


@pytest.mark.parametrize(
    "attributes",
    [
        NEW,
        OLD,
        NEW | OLD,
        OLD | {"http.target": "http://shop.example.com/chat?a=1"},  # absolute form, through a proxy
        {
            "http.method": "POST",
            "http.url": "http://shop.example.com:8080/chat?a=1",
            "http.status_code": "200",
        },  # Envoy
        {"http.request.method": "POST", "url.full": "https://shop/chat?a=1", "http.response.status_code": 200},  # PHP
        {"http.method": "POST", "http.url": "http://shop/chat", "http.status_code": "200"},
        {
            "http.request.method": "POST",
            "http.route": "/chat",
            "http.response.status_code": 200,
        },  # WSGI without a path
        NEW | {"http.response.status_code": 200.0},
        NEW | {"http.response.status_code": [200]},
        NEW | {"url.path": "/chat/"},
        NEW | {"http.target": "/other"},  # they disagree: the new name wins
        {**NEW, "url.path": "", "http.target": "/chat"},
    ],
)
def test_every_convention_gives_the_same_usage(attributes: dict[str, object]) -> None:
    """Old names, new names, both at once, and what proxies and PHP make of them: one record."""
    record = only(judge(attributes | {"http.request.header.x-account-id": ["acme"]}, policy()))
    assert (record.user, record.quantity, record.reason) == ("acme", 1, None)


@pytest.mark.parametrize(
    ("path", "target"),
    [("/orgs/a/b", "/orgs/a%2Fb?x"), ("/orgs/cafÃ©", "/orgs/caf%C3%A9"), ("/acme corp", "/orgs/acme%20corp")],
)
def test_of_a_whole_and_a_damaged_path_the_whole_one_counts(path: str, target: str) -> None:
    """Python's WSGI writes url.path decoded and without its mount point; http.target beside it is the real one."""
    attributes = http(path, http__target=target, http__request__header__x_account_id="acme")
    batch = judge(attributes, policy(endpoint="POST /orgs/:org", user={"path": "org"}))
    assert only(batch).user in {"a/b", "café", "acme corp"}


def test_a_method_that_the_conventions_do_not_know_is_found() -> None:
    """_OTHER stands for a method whose name is in http.request.method_original."""
    attributes = http(method="_OTHER", http__request__method_original="PURGE")
    assert judge(attributes, policy(endpoint="PURGE /chat")).unmatched == 0
    assert judge(attributes, policy()).unmatched == 1


@pytest.mark.parametrize(
    ("status", "rule", "billed"),
    [
        (200, "2xx", True),
        (299, "2xx", True),
        (300, "2xx", False),
        (404, 404, True),
        (404, "404", True),
        (404, ["2xx", "404"], True),
        (500, ["2xx", "3xx"], False),
        (500, "any", True),
        ("200", "2xx", True),
        (None, "2xx", False),
        (None, "any", True),
        ("0", "2xx", False),  # Envoy, when the client went away
        ("0", "any", True),
        (0, ["1xx", "2xx", "3xx", "4xx", "5xx"], False),
        ("OK", "2xx", False),
    ],
)
def test_status_rules(status: object, rule: object, billed: bool) -> None:
    """Only the statuses of the rule are billed; a request without a status is billed under `any` only."""
    attributes = http(status=None, http__request__header__x_account_id="acme")
    if status is not None:
        attributes["http.response.status_code"] = status
    batch = judge(attributes, policy(status=rule))
    assert len(batch.records) == (1 if billed else 0)
    assert batch.unbilled == ({} if billed else {("chat", "status"): 1})
    assert batch.unmatched == 0


@pytest.mark.parametrize("key", ["rpc.system", "rpc.system.name"])
def test_a_grpc_call_is_no_http_request(key: str) -> None:
    """A SERVER span with rpc.system is left alone, even if it has HTTP attributes."""
    batch = judge(http() | {key: "grpc"}, policy(endpoint="* /**"))
    assert (batch.spans, batch.requests, batch.unmatched) == (1, 0, 0)


def test_a_span_without_http_attributes_is_no_request() -> None:
    """A SERVER span of a message queue or a job is no HTTP request, whatever policies say."""
    assert judge({"messaging.system": "kafka"}, policy(endpoint="* /**")).requests == 0


def bill(policy_engine: PolicyEngine, attributes: dict[str, object], **where: object) -> int:
    return len(policy_engine.evaluate(payload(span(attributes), **where), 0).records)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attributes", "host"),
    [
        ({"server.address": "API.example.com"}, "api.example.com"),
        ({"server.address": "api.example.com:8443"}, "api.example.com:443"),
        ({"http.host": "api.example.com:8080"}, "api.example.com"),
        ({"net.host.name": "api.example.com"}, "API.EXAMPLE.COM"),
        ({"http.url": "http://user:secret@api.example.com:80/chat?@x"}, "api.example.com"),
        ({"http.host": "10.0.0.7", "http.url": "http://api.example.com/chat"}, "api.example.com"),
        ({"server.address": "api.example.com."}, "api.example.com"),
        ({"server.address": "[::1]:80"}, "[::1]"),
        ({"server.address": "::1"}, "[::1]:80"),
    ],
)
def test_hosts_are_compared_without_port_and_case(attributes: dict[str, object], host: str) -> None:
    """`match: host` names the host that was asked for."""
    assert judge(http() | attributes, policy(match={"host": host})).unmatched == 0
    assert judge(http() | attributes, policy(match={"host": "other.example.com"})).unmatched == 1
    assert judge(http(), policy(match={"host": host})).unmatched == 1


@pytest.mark.parametrize(
    ("written", "value", "holds"),
    [
        ("gold", "gold", True),
        ("gold", "Gold", False),
        (["gold", "silver"], "silver", True),
        (5, 5, True),
        (5, "5", True),
        ("5", 5, True),
        (True, True, True),
        ("true", True, True),
        (True, 1, False),
        (1.5, 1.5, True),
        (2, 2.0, True),
        ("gold", ["gold"], True),
        ("gold", ["gold", "silver"], False),
        ("gold", {"a": "gold"}, False),
        ("gold", None, False),
    ],
)
def test_match_compares_attributes_by_their_text(written: object, value: object, holds: bool) -> None:
    """An attribute matches if its one text is one of those written, on the span or else on the resource."""
    rule = policy(match={"attributes": {"tier": written}})
    assert judge(http() | {"tier": value}, rule).unmatched == (0 if holds else 1)
    assert judge(http(), rule, resource={"tier": value}).unmatched == (0 if holds else 1)
    assert judge(http() | {"tier": "other"}, rule, resource={"tier": value}).unmatched == 1


def test_match_by_service_and_scope() -> None:
    """`service` is the resource's service.name, `scope` the instrumentation scope; each may be a list."""
    rule = policy(match={"service": ["shop", "store"], "scope": "tests"})
    assert judge(http(), rule).unmatched == 0
    assert judge(http(), rule, service="store").unmatched == 0
    assert judge(http(), rule, service="proxy").unmatched == 1
    assert judge(http(), rule, service=None).unmatched == 1
    assert judge(http(), rule, scope="other").unmatched == 1
