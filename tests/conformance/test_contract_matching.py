"""The contract's fine print of matching, sentence by sentence, seen from outside."""

import json

import pytest
from outside import END, export, outcome, policy, preview_of, request, span, user

FAR_FUTURE = 4_000_000_000_000_000_000


def test_the_order_of_rules_gives_the_reason() -> None:
    """The order is: endpoint, `match`, `status`, user, quantity. The first that fails gives the reason."""
    keys = {"match": {"service": "shop"}, "quantity": {"attribute": "n"}}
    wrong = request("/other", status=500, user=None)
    assert outcome(wrong, **keys) == "unmatched"
    assert outcome(wrong | {"url.path": "/chat"}, resource={"service.name": "x"}, **keys) == "unmatched"
    assert outcome(wrong | {"url.path": "/chat"}, **keys) == "status"
    assert outcome(request(user=None), **keys) == "no_user"
    assert outcome(request(), **keys) == "bad_quantity"
    assert outcome(request(n=3), **keys) == "acme=3"


@pytest.mark.parametrize(
    ("endpoint", "path", "fits"),
    [
        ("/a/b", "/a/b", True),
        ("/a/b", "/A/b", False),
        ("/a/b", "/a", False),
        ("/a", "/a/b", False),
        ("/a/:x", "/a/b%2Fc", True),
        ("/a/:x/:y", "/a/b%2Fc", False),
        ("/caf%C3%A9", "/café", True),
        ("/café", "/caf%C3%A9", True),
        ("/a", "/%61", True),
        ("/a", "/a/", True),
        ("/a/", "/a", True),
        ("/a", "/a//", False),
        ("/", "/", True),
    ],
)
def test_paths_are_compared_by_segment(endpoint: str, path: str, fits: bool) -> None:
    """By segment, case-sensitively: split at `/` first, percent-decoded after. One trailing slash is ignored."""
    assert (outcome(request(path), endpoint=f"POST {endpoint}") == "acme=1") is fits


@pytest.mark.parametrize("rest", ["**", "*rest"])
def test_the_rest_may_be_nothing(rest: str) -> None:
    """`**` and `*rest` match zero or more segments, so `/users/**` matches `/users`."""
    for path in ("/users", "/users/", "/users/1", "/users/1/2/3"):
        assert outcome(request(path), endpoint=f"POST /users/{rest}") == "acme=1"
    assert outcome(request("/user"), endpoint=f"POST /users/{rest}") == "unmatched"
    assert outcome(request("/"), endpoint=f"POST /{rest}") == "acme=1"


def test_the_path_decides() -> None:
    """The path decides; the route is used where a span has no path."""
    assert outcome(request("/a", http__route="/b"), endpoint="POST /a") == "acme=1"
    assert outcome(request("/a", http__route="/b"), endpoint="POST /b") == "unmatched"
    assert outcome(request(None, http__route="/b"), endpoint="POST /b") == "acme=1"


@pytest.mark.parametrize(
    "route", ["/users/{id}", "/users/:id", "/users/<int:id>", "users/<str:id>", "/users/{id:int}"]
)
def test_routes_are_read_in_every_spelling(route: str) -> None:
    """`http.route` is spelled in each framework's own way; policies are written once."""
    assert outcome(request(None, http__route=route), endpoint="POST /users/:name") == "acme=1"
    assert outcome(request(None, http__route=route), endpoint="POST /users/me") == "unmatched"


def test_a_mount_point_is_no_match_for_anything_else() -> None:
    """A route that is only a mount point is no match for anything else."""
    assert outcome(request(None, http__route="/sub"), endpoint="POST /sub/items/:id") == "unmatched"
    assert outcome(request(None, http__route="/sub"), endpoint="POST /sub/:id") == "unmatched"
    assert outcome(request(None, http__route="/sub"), endpoint="POST /sub") == "acme=1"


def test_with_neither_path_nor_route_only_the_rest_matches() -> None:
    """With neither, only `/**` matches."""
    assert outcome(request(None), endpoint="POST /**") == "acme=1"
    for endpoint in ("POST /", "POST /*", "POST /:id", "POST /a/**"):
        assert outcome(request(None), endpoint=endpoint) == "unmatched"


def test_host_is_compared_without_its_port() -> None:
    """`host` is compared without its port."""
    match = {"host": "api.example.com"}
    assert outcome(request(server__address="api.example.com", server__port=8443), match=match) == "acme=1"
    assert outcome(request(server__address="api.example.com:8443"), match=match) == "acme=1"
    assert outcome(request(http__host="api.example.com:80"), match=match) == "acme=1"
    assert outcome(request(net__host__name="api.example.com"), match=match) == "acme=1"
    assert outcome(request(server__address="www.example.com"), match=match) == "unmatched"
    assert outcome(request(), match=match) == "unmatched"
    assert outcome(request(server__address="a"), match={"host": ["b:80", "a:443"]}) == "acme=1"


def test_match_attributes_look_at_the_span_then_the_resource() -> None:
    """`match.attributes` looks at the span, then the resource."""
    match = {"attributes": {"tier": ["gold", "7"], "live": True}}
    resource = {"tier": "gold", "live": True}
    assert outcome(request(), resource=resource, match=match) == "acme=1"
    assert outcome(request(tier="iron"), resource=resource, match=match) == "unmatched"
    assert outcome(request(tier=7, live=True), match=match) == "acme=1"
    assert outcome(request(tier="gold"), match=match) == "unmatched"


def test_a_grpc_server_span_is_no_http_request() -> None:
    """A gRPC server span is no HTTP request."""
    for attributes in ({"rpc.system": "grpc", "rpc.method": "Chat"}, request(rpc__system="grpc"), {"db.system": "x"}):
        told = preview_of(export(span(attributes)), [policy(endpoint="* /**")])
        assert (told["spans"], told["requests"], told["unmatched_requests"], told["usage"]) == (1, 0, 0, [])


def test_the_first_policy_of_an_event_name_takes_the_request() -> None:
    """Of several with one event_name the first whose endpoint and `match` fit, even if its status or user fails."""
    second = policy(name="second", user={"metadata": "enduser.id"}, status="any")
    spans = [
        span(request(status=500, enduser__id="zoe")),
        span(request(user=None, enduser__id="zoe")),
        span(request(enduser__id="zoe")),
    ]
    told = preview_of(export(*spans), [policy(), second])
    assert [line["policy"] for line in told["usage"]] == ["chat"]
    assert told["quarantined"] == [{"policy": "chat", "reason": "no_user", "requests": 1}]
    assert told["unbilled"] == [{"policy": "chat", "reason": "status", "requests": 1}]
    told = preview_of(export(*spans), [policy(match={"service": "elsewhere"}), second])
    assert [(line["policy"], line["requests"]) for line in told["usage"]] == [("second", 3)]


@pytest.mark.parametrize(("rule", "billed"), [("2xx", False), (["2xx", "5xx"], False), ("any", True)])
def test_no_status_is_billed_under_any_only(rule: object, billed: bool) -> None:
    """No status on the span: billed under `any` only. Envoy writes 0 where there was no answer."""
    for status in (None, 0, "0"):
        assert outcome(request(status=status), status=rule) == ("acme=1" if billed else "status")


@pytest.mark.parametrize(
    ("on_span", "expected"),
    [
        ("  acme\t", "acme"),
        (42, "42"),
        (-7, "-7"),
        (True, "true"),
        (False, "false"),
        (["acme"], "acme"),
        (["acme", "acme"], "acme"),
        (["acme", "other"], None),
        ([], None),
        ("x" * 500, "x" * 500),
        ("x" * 501, None),
        ("   ", None),
    ],
)
def test_user_values(on_span: object, expected: str | None) -> None:
    """Trimmed; an integer is its digits, a boolean true or false, a list of one its element; over 500: no user."""
    assert user(request() | {"enduser.id": on_span}, {"metadata": "enduser.id"}) == expected


def test_more_than_one_distinct_value_is_no_user() -> None:
    """More than one distinct value (a repeated parameter, a header in both spellings, a list) is no user."""
    assert user(request(url__query="a=1&a=2"), {"query": "a"}) is None
    assert user(request(url__query="a=1&b=2&a=1"), {"query": "a"}) == "1"
    both = request(user="acme") | {"http.request.header.x_account_id": ["other"]}
    assert user(both, {"header": "x-account-id"}) is None
    both["http.request.header.x_account_id"] = ["acme"]
    assert user(both, {"header": "X-Account-Id"}) == "acme"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("account=a+b", "a b"),
        ("account=a%2Bb", "a+b"),
        ("account=a;b", "a;b"),
        ("x=1;account=a", None),
        ("acc%6Funt=a", "a"),
        ("account=%C3%A9", "é"),
        ("?account=a", "a"),
        ("account=a%26b&c=d", "a&b"),
        ("Account=a", None),
        ("account", None),
    ],
)
def test_query(query: str, expected: str | None) -> None:
    """`+` is a space in a query, `;` separates nothing, names are decoded before they are compared."""
    assert user(request(url__query=query), {"query": "account"}) == expected
    assert user(request(None, http__target="/chat?" + query.lstrip("?")), {"query": "account"}) == expected


def test_no_user_and_a_bad_quantity() -> None:
    """No user and a bad quantity: `no_user`."""
    assert outcome(request(user=None, n="many"), quantity={"attribute": "n"}) == "no_user"


def test_quantity_0_is_a_billed_request_of_0() -> None:
    """Quantity 0 is a billed request of 0."""
    assert outcome(request(n=0), quantity={"attribute": "n"}) == "acme=0"
    assert outcome(request(), quantity=0) == "acme=0"


@pytest.mark.parametrize(
    ("on_span", "quantity"),
    [
        ("12", "12"),
        ("012", "12"),
        (0.1, "0.1"),
        (2.0, "2"),
        ([3], "3"),
        (1_000_000, "1000000"),
        ("", None),
        ("1e3", None),
        ("+5", None),
        ("-1", None),
        ("0x10", None),
        ("1_000", None),
        ("many", None),
        ("٣", None),
        (-1, None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
        ([1, 2], None),
        (None, None),
    ],
)
def test_quantities(on_span: object, quantity: str | None) -> None:
    """A string of plain decimal digits is a number, any other text is `bad_quantity`; so is a negative one."""
    expected = "bad_quantity" if quantity is None else f"acme={quantity}"
    assert outcome(request() | ({} if on_span is None else {"n": on_span}), quantity={"attribute": "n"}) == expected


def test_body() -> None:
    """`body` reads `http.request.body.content` (`body_attribute` on the policy names another)."""
    body = json.dumps({"user": {"account_id": "acme"}})
    source = {"body": "user.account_id"}
    assert user(request(user=None, http__request__body__content=body), source) == "acme"
    assert user(request(user=None, my__body=body), source) is None
    assert user(request(user=None, my__body=body), source, body_attribute="my.body") == "acme"
    assert user(request(user=None, http__request__body__content=body[:-5]), source) is None


def test_a_span_in_the_future_is_billed() -> None:
    """A span that ends in the future of the service's clock is stamped with the time it was received."""
    told = preview_of(export(span(request(), end_time_unix_nano=FAR_FUTURE)), [policy()])
    assert told["usage"][0]["quantity"] == "1"


def test_decoded_paths_are_not_decoded_again() -> None:
    """Paths are percent-decoded once: ASGI's instrumentations hand them on decoded already."""
    for scope, expected in (("opentelemetry.instrumentation.fastapi", "a%25b"), ("net/http", "a%b")):
        data = export(span(request("/users/a%25b"), end_time_unix_nano=END), scope=scope)
        told = preview_of(data, [policy(endpoint="POST /users/:id", user={"path": "id"})])
        assert told["usage"][0]["user"] == expected
