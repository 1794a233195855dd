"""gRPC methods as endpoints: which calls fit, in every convention, with which status and whose they are."""

import itertools
from typing import Any

import pytest
from pydantic import ValidationError
from span_builder import NOW, engine, http, judge, only, payload, policy, span

from otel_usageflow.model.usage import UsageBatch
from otel_usageflow.policy import grpc as grpc_names
from otel_usageflow.policy.config import PolicyConfig

METADATA = {"rpc.grpc.request.metadata.x-account-id": ["acme"]}


def old(method: str = "shop.Orders/Get", status: Any = 0, **more: Any) -> dict[str, Any]:
    """Attributes as up to conventions 1.38: service and method apart, the status a number."""
    service, _, name = method.rpartition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
    return attributes | ({} if status is None else {"rpc.grpc.status_code": status}) | METADATA | more


def new(method: str = "shop.Orders/Get", status: Any = "OK", **more: Any) -> dict[str, Any]:
    """Attributes as from conventions 1.39 on: one name, the status a word."""
    attributes = {"rpc.system.name": "grpc", "rpc.method": method}
    return attributes | ({} if status is None else {"rpc.response.status_code": status}) | METADATA | more


def grpc(endpoint: Any = "grpc shop.Orders/Get", **changes: Any) -> PolicyConfig:
    return policy(endpoint=endpoint, **changes)


def billed(batch: UsageBatch) -> list[str]:
    return [record.terms.policy for record in batch.records]


@pytest.mark.parametrize(
    "call", [old(), new(), old() | new(), new("/shop.Orders/Get"), new(status=None, **{"rpc.status_code": "OK"})]
)
def test_every_convention_is_the_same_call(call: dict[str, Any]) -> None:
    """Service and method in two attributes, in one, in both, with a slash before them: the same usage."""
    record = only(judge(call, grpc()))
    assert (record.user, record.source, record.quantity) == ("acme", "header x-account-id", 1)


def test_new_names_win() -> None:
    """Where both conventions are on a span and disagree, the newer one counts."""
    call = old("shop.Orders/Get", 5) | new("shop.Orders/Get", "OK")
    assert billed(judge(call, grpc())) == ["chat"]
    assert billed(judge(old("shop.Orders/Get") | {"rpc.method": "shop.Orders/Put"}, grpc())) == []


@pytest.mark.parametrize(
    ("endpoint", "fits"),
    [
        ("grpc shop.Orders/Get", {"shop.Orders/Get"}),
        ("grpc /shop.Orders/Get", {"shop.Orders/Get"}),
        ("grpc shop.Orders/*", {"shop.Orders/Get", "shop.Orders/Put"}),
        ("GRPC *", {"shop.Orders/Get", "shop.Orders/Put", "Orders/Get", "shop.orders/Get"}),
        (["grpc Orders/Get", "POST /chat"], {"Orders/Get"}),
    ],
)
def test_which_methods_fit(endpoint: Any, fits: set[str]) -> None:
    """Names are compared whole and with case."""
    methods = ["shop.Orders/Get", "shop.Orders/Put", "Orders/Get", "shop.orders/Get"]
    assert {one for one in methods if billed(judge(old(one), grpc(endpoint)))} == fits
    assert {one for one in methods if billed(judge(new(one), grpc(endpoint)))} == fits


def test_a_span_that_does_not_say_its_method() -> None:
    """Only what takes every method takes it, and a service alone only what takes all of that service."""
    nameless = {"rpc.system": "grpc", "rpc.grpc.status_code": 0} | METADATA
    assert billed(judge(nameless, grpc("grpc *"))) == ["chat"]
    assert billed(judge(nameless, grpc(["grpc shop.Orders/*", "grpc shop.Orders/Get"]))) == []
    assert billed(judge(nameless | {"rpc.service": "shop.Orders"}, grpc("grpc shop.Orders/*"))) == ["chat"]
    assert billed(judge(nameless | {"rpc.method": "Get"}, grpc("grpc shop.Orders/Get"))) == []


def test_a_method_that_the_server_does_not_have() -> None:
    """Newer conventions write `_OTHER`, and the name that was asked for beside it."""
    call = new("_OTHER", "UNIMPLEMENTED") | {"rpc.method_original": "shop.Orders/Nope"}
    assert billed(judge(call, grpc("grpc shop.Orders/*", status="any"))) == ["chat"]
    assert billed(judge(new("_OTHER", "UNIMPLEMENTED"), grpc("grpc shop.Orders/*", status="any"))) == []


def test_grpc_is_no_http() -> None:
    """A gRPC span fits no path, even with HTTP's attributes on it, and an HTTP span fits no gRPC endpoint."""
    everything, calls = policy(endpoint="* /**", status="any"), grpc("grpc *", name="calls", status="any")
    both = http("/shop.Orders/Get") | old()
    assert billed(judge(both, everything)) == []
    assert billed(judge(both, everything, calls)) == ["calls"]
    web = http("/shop.Orders/Get") | {"http.request.header.x-account-id": "acme"}
    assert billed(judge(web, calls, everything)) == ["chat"]


def test_other_rpc_systems_are_no_requests() -> None:
    """Connect, Dubbo or JSON-RPC are neither HTTP nor gRPC."""
    for system in ("connect_rpc", "dubbo", "jsonrpc", "", 7):
        batch = judge(
            old() | {"rpc.system": system}, grpc("grpc *", status="any"), policy(name="b", endpoint="* /**")
        )
        assert (batch.records, batch.requests, batch.unmatched) == ([], 0, 0)


def test_calls_are_counted_where_somebody_asks_for_them() -> None:
    """Without a gRPC endpoint a call is not counted at all; with one it is a request, matched or not."""
    assert judge(old(), policy()).requests == 0
    batch = judge(old("shop.Orders/Put"), grpc(), policy(name="b"))
    assert (batch.requests, batch.unmatched) == (1, 1)
    assert judge(http(), grpc()).unmatched == 1


CODES = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
]


@pytest.mark.parametrize("spelling", ["number", "text", "name", "go"])
def test_the_status_in_every_spelling(spelling: str) -> None:
    """A number, its digits, a name, or Go's spelling of the name."""
    told = {
        "number": dict(enumerate(CODES)),
        "text": {str(number): name for number, name in enumerate(CODES)},
        "name": {name: name for name in CODES},
        "go": {name.title().replace("_", "").replace("Ok", "OK"): name for name in CODES} | {"Canceled": "CANCELLED"},
    }[spelling]
    for written, name in told.items():
        for other in CODES:
            call = old(status=written) if spelling in ("number", "text") else new(status=written)
            assert bool(billed(judge(call, grpc(status=other)))) == (name == other), (written, other)


@pytest.mark.parametrize("status", [None, "", 17, -1, "17", "YES", 200, ["0", "5"], 0.0])
def test_no_status_or_none_that_there_is(status: Any) -> None:
    """Billed under `any` only, as an HTTP request without a status is."""
    for call in (old(status=status), new(status=status)):
        assert billed(judge(call, grpc(status="any"))) == ["chat"]
        assert judge(call, grpc(status=["2xx", *CODES])).unbilled == {("chat", "status"): 1}


@pytest.mark.parametrize(
    ("rules", "codes"),
    [
        (None, {"OK"}),
        ("2xx", {"OK"}),
        (["2xx", "not_found"], {"OK", "NOT_FOUND"}),
        (["NOT_FOUND", "CANCELED"], {"NOT_FOUND", "CANCELLED"}),
        ("any", set(CODES)),
    ],
)
def test_which_statuses_are_billed(rules: Any, codes: set[str]) -> None:
    """`2xx`, the default, is OK; further codes are written by name."""
    assert {code for code in CODES if billed(judge(new(status=code), grpc(status=rules)))} == codes


@pytest.mark.parametrize(
    ("endpoint", "status", "says"),
    [
        ("grpc *", "404", "404 is an HTTP status, and all endpoints are gRPC methods"),
        ("grpc *", ["2xx", "3xx"], "3xx is an HTTP status"),
        ("POST /chat", ["2xx", "NOT_FOUND"], "NOT_FOUND is a gRPC status, and no endpoint is a gRPC method"),
        ("graphql query *", "OK", "OK is a gRPC status"),
        (["grpc *", "POST /chat"], "404", "no gRPC status"),
        (["grpc *", "POST /chat"], "NOT_FOUND", "no HTTP status"),
        ("grpc *", "0", "is no status rule"),
        ("grpc *", "NOT_FOND", "did you mean NOT_FOUND"),
    ],
)
def test_statuses_that_do_not_go_with_the_endpoints(endpoint: Any, status: Any, says: str) -> None:
    """A rule that could never be met is an error that says what to write."""
    with pytest.raises(ValidationError, match=says):
        grpc(endpoint, status=status)


def test_both_kinds_of_endpoints_in_one_policy() -> None:
    """One policy may bill a path and a method; the statuses of both are named, or 2xx."""
    mixed = grpc(["grpc shop.Orders/Get", "POST /chat"], status=["404", "NOT_FOUND"])
    acme = {"http.request.header.x-account-id": "acme"}
    assert only(judge(new(status="NOT_FOUND"), mixed)).user == "acme"
    assert only(judge(http(status=404) | acme, mixed)).user == "acme"
    assert judge(new(), mixed).unbilled == judge(http(), mixed).unbilled == {("chat", "status"): 1}


@pytest.mark.parametrize(
    "text", ["grpc", "grpc shop.Orders", "grpc */Get", "grpc a b", "grpc shop..Orders/Get", "grpc a/b/c", "grpc a/b*"]
)
def test_what_is_no_grpc_endpoint(text: str) -> None:
    """The error shows a right one."""
    with pytest.raises(ValidationError, match=r"grpc shop\.Orders/Get"):
        grpc(text)


@pytest.mark.parametrize("prefix", [*grpc_names.METADATA, "http.request.header."])
@pytest.mark.parametrize(
    ("user", "attribute", "value", "found"),
    [
        ({"header": "x-account-id"}, "x-account-id", ["acme"], "acme"),
        ({"header": "x-account-id"}, "x_account_id", "acme", "acme"),
        ({"header": "x-account-id"}, "x-account-id", ["acme", "beta"], None),
        ({"header": "x-account-id"}, "x-account-id", ["[REDACTED]"], None),
        (
            {"api_key": {"header": "authorization", "scheme": "bearer", "hash": "none"}},
            "authorization",
            ["Bearer k"],
            "k",
        ),
        ({"cookie": "account"}, "cookie", "account=acme", "acme"),
        ({"basic_auth": "user"}, "authorization", "Basic YWNtZTpzZWNyZXQ=", "acme"),
        ({"baggage": "account"}, "baggage", "account=acme", "acme"),
        ({"jwt": {"claim": "sub", "verify": "none"}}, "authorization", "Bearer e30.eyJzdWIiOiJhY21lIn0.x", "acme"),
        ({"template": "{header:x-org}/1"}, "x-org", "acme", "acme/1"),
    ],
)
def test_metadata_is_a_header(prefix: str, user: Any, attribute: str, value: Any, found: str | None) -> None:
    """Everything that is read from a header is read from a call's metadata, by the same rules."""
    call = {key: one for key, one in old().items() if key not in METADATA} | {prefix + attribute: value}
    assert only(judge(call, grpc(user=user))).user == found


def test_metadata_is_no_header_of_a_path() -> None:
    """A policy without gRPC endpoints does not even look at it."""
    assert only(judge(http() | METADATA, policy())).user is None


def test_what_a_call_has_for_conditions() -> None:
    """Method and status under names of their own; those of HTTP are absent, even if the span has such attributes."""
    call = http() | new(status="NOT_FOUND")

    def taken(condition: str) -> bool:
        return bool(billed(judge(call, grpc(status="any", match={"condition": condition}))))

    assert taken("span.rpc_method == 'shop.Orders/Get' && span.rpc_status == 'NOT_FOUND'")
    assert taken("!has(span.method) && !has(span.path) && !has(span.route) && !has(span.status)")
    web = judge(http() | METADATA, policy(status="any", match={"condition": "!has(span.rpc_method)"}))
    assert billed(web) == ["chat"]


def test_many_methods_cost_as_one() -> None:
    """A thousand policies of as many methods: a call is told apart by looking its name up."""
    rules = [
        grpc(f"grpc shop.Orders/M{number}", name=f"p{number}", event_name=f"e{number}") for number in range(1000)
    ]
    rules.append(grpc("grpc shop.Orders/*", name="all", event_name="all"))
    judged = engine(*rules)
    for number in (0, 500, 999):
        batch = judged.evaluate(payload(span(new(f"shop.Orders/M{number}"))), NOW)
        assert billed(batch) == [f"p{number}", "all"]


def test_the_first_of_one_event_name_wins() -> None:
    """As with paths: the order decides, and not how exact an endpoint is."""
    for order in itertools.permutations([grpc("grpc *", name="a"), grpc(name="b")]):
        assert billed(judge(new(), *order)) == [order[0].name]
