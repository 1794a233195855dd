"""The user sources: who is found, and that nobody is ever guessed."""

import hashlib
import hmac
import json
from typing import Any

import pytest
from span_builder import engine, http, judge, only, payload, policy, span, user_of

HEADER = "http.request.header.x-account-id"
UNDERSCORE = "http.request.header.x_account_id"
PLACEHOLDERS = ["[REDACTED]", "REDACTED", "Redacted", "****", "-", "", "  ", " [REDACTED] "]

VALUES = [
    ("acme", "acme"),
    (" acme ", "acme"),
    (["acme"], "acme"),
    (["acme", "acme "], "acme"),
    (["acme", "globex"], None),
    (["acme", ""], None),
    (["acme", None], None),
    ([], None),
    (None, None),
    (42, "42"),
    (-7, "-7"),
    (True, "true"),
    (False, "false"),
    ([7], "7"),
    (1.5, None),
    ({"id": "acme"}, None),
    (["acme", ["acme"]], None),
    (b"acme", "acme"),
    (b"\xff", None),
    ("é", "é"),
    ("x" * 500, "x" * 500),
    ("x" * 501, None),
    *((text, None) for text in PLACEHOLDERS),
]


@pytest.mark.parametrize(("value", "user"), VALUES, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("key", [HEADER, UNDERSCORE])
def test_header(key: str, value: Any, user: str | None) -> None:
    """A header's value is the user if it is one text that is no placeholder, in either spelling of its name."""
    assert user_of({key: value}, {"header": "X-Account-Id"}) == user


@pytest.mark.parametrize(("value", "user"), VALUES, ids=lambda value: repr(value)[:30])
def test_metadata(value: Any, user: str | None) -> None:
    """An attribute's value is the user, on the span or the resource, under the same rules as a header."""
    rule = {"metadata": "enduser.id"}
    assert user_of({"enduser.id": value}, rule) == user
    assert user_of({}, rule, resource={"enduser.id": value}) == user
    assert user_of({"enduser.id": value}, rule | {"scope": "resource"}) is None
    assert user_of({}, rule | {"scope": "span"}, resource={"enduser.id": value}) is None


@pytest.mark.parametrize(
    ("attributes", "user"),
    [
        ({HEADER: "acme", UNDERSCORE: ["acme"]}, "acme"),
        ({HEADER: "acme", UNDERSCORE: "globex"}, None),
        ([(HEADER, "acme"), (HEADER, "globex")], None),
        ([(HEADER, "acme"), (HEADER, "acme")], "acme"),
        ([(HEADER, "acme"), (HEADER, ["acme"])], "acme"),
        ({"http.request.header.X-Account-Id": "acme"}, None),
    ],
)
def test_a_header_that_is_there_several_times(attributes: Any, user: str | None) -> None:
    """Two distinct values are no user, whether they are in two spellings, one list, or one key written twice."""
    assert user_of(attributes, {"header": "x-account-id"}) == user


def test_the_span_comes_before_the_resource() -> None:
    """Metadata of the span is the user before the resource's; a placeholder there is nobody."""
    rule = {"metadata": "enduser.id"}
    assert user_of({"enduser.id": "acme"}, rule, resource={"enduser.id": "globex"}) == "acme"
    assert user_of({"enduser.id": "-"}, rule, resource={"enduser.id": "globex"}) == "globex"


@pytest.mark.parametrize(
    ("query", "user"),
    [
        ("account=acme", "acme"),
        ("?account=acme", "acme"),  # .NET
        ("?account=Redacted", None),  # .NET
        ("a=1&account=acme&b=2", "acme"),
        ("account=acme+corp", "acme corp"),
        ("account=acme%20corp", "acme corp"),
        ("account=a%2Bb%26c%3Dd", "a+b&c=d"),
        ("acc%6Funt=acme", "acme"),
        ("account=acme&account=acme", "acme"),
        ("account=acme&account=globex", None),
        ("account=&account=globex", None),
        ("account=a;b", "a;b"),
        ("x=1;account=acme", None),
        ("Account=acme", None),
        ("account", None),
        ("account=", None),
        ("account=%FF", None),
        ("account=caf%C3%A9", "café"),
        ("account=a=b", "a=b"),
        ("", None),
    ],
)
def test_query(query: str, user: str | None) -> None:
    """Split at & only, decoded once, + is a space; a parameter with two distinct values is nobody."""
    rule = {"query": "account"}
    bare = query.removeprefix("?")
    assert user_of({"url.query": query}, rule) == user
    assert user_of({"http.target": f"/chat?{bare}#f"}, rule) == user
    assert user_of({"url.full": f"https://shop/chat?{bare}"}, rule) == user
    assert user_of({"http.url": f"http://shop/chat?{bare}"}, rule) == user


@pytest.mark.parametrize(
    ("query", "user"), [("account=acme", "acme"), ("account=a+b", None), ("account=a%20b", None), ("account=é", "é")]
)
def test_a_query_that_was_decoded_already_is_not_guessed(query: str, user: str | None) -> None:
    """Python's ASGI decodes the query into http.url; a + there may have been + or a space, so it is nobody."""
    attributes = {"http.url": f"http://shop/chat?{query}"}
    assert user_of(attributes, {"query": "account"}, scope="opentelemetry.instrumentation.fastapi") == user


@pytest.mark.parametrize(
    ("endpoint", "path", "user"),
    [
        ("POST /users/:id", "/users/7", "7"),
        ("POST /users/{id}/posts", "/users/a%20b/posts/", "a b"),
        ("POST /users/:id", "/users/a%2Fb", "a/b"),
        ("POST /users/:id", "/users/%FF", None),
        ("POST /users/:id", "/users/-", None),
        ("POST /files/*id", "/files/a/b", "a/b"),
        ("POST /files/*id", "/files", None),
        (["POST /users/**", "POST /users/:id"], "/users/7", "7"),
        (["POST /:id/b", "POST /a/:id"], "/a/b", None),
    ],
)
def test_path(endpoint: Any, path: str, user: str | None) -> None:
    """A path parameter is read by the policy's own template, and decoded."""
    assert only(judge(http(path), policy(endpoint=endpoint, user={"path": "id"}))).user == user


def test_a_route_does_not_tell_what_its_parameters_were() -> None:
    """Without a path there is no path parameter, even where the route has a literal in its place."""
    for route in ("/users/{id}", "/users/me"):
        attributes = {"http.request.method": "POST", "http.route": route, "http.response.status_code": 200}
        record = only(judge(attributes, policy(endpoint="POST /users/:id", user={"path": "id"})))
        assert (record.user, record.reason) == (None, "no_user")


@pytest.mark.parametrize(
    ("path", "body", "user"),
    [
        ("user.account_id", {"user": {"account_id": "acme"}}, "acme"),
        ("$.user.account_id", {"user": {"account_id": 7}}, "7"),
        ("items.0.id", {"items": [{"id": "a"}, {"id": "b"}]}, "a"),
        ("items.1.id", {"items": [{"id": "a"}, {"id": "b"}]}, "b"),
        ("items.9.id", {"items": [{"id": "a"}]}, None),
        ("0", ["acme"], "acme"),
        ("id", {"id": True}, "true"),
        ("id", {"id": ["acme"]}, "acme"),
        ("id", {"id": ["acme", "globex"]}, None),
        ("id", {"id": 1.0}, None),
        ("id", {"id": None}, None),
        ("id", {"id": {"x": 1}}, None),
        ("id", "id", None),
        ("id", '{"id": "acme", "id": "globex"}', None),
        ("id", '{"id": "acme", "id": "acme"}', "acme"),
        ("id", '{"id": "acme", "text": "cut o', None),
        ("id", '{"id": "\\ud800"}', None),
        ("id", "[" * 100_000, None),
        ("id", '{"id": ' + "9" * 5000 + "}", None),
        ("id", b'{"id": "acme"}', "acme"),
        ("id", b'{"id": "\xff"}', None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_body(path: str, body: Any, user: str | None) -> None:
    """A value in the JSON body is the user; a repeated name with distinct values, or cut text, is nobody."""
    text = json.dumps(body) if not isinstance(body, str | bytes) else body
    assert user_of({"http.request.body.content": text}, {"body": path}) == user


def test_body_attribute() -> None:
    """`body_attribute` names the attribute that holds the body."""
    rule = policy(user={"body": "id"}, body_attribute="app.body")
    assert only(judge(http() | {"app.body": '{"id": "acme"}'}, rule)).user == "acme"
    assert only(judge(http() | {"http.request.body.content": '{"id": "acme"}'}, rule)).user is None


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.mark.parametrize(
    ("options", "attributes", "user"),
    [
        ({"header": "x-api-key"}, {"http.request.header.x-api-key": ["k1"]}, digest("k1")),
        ({"header": "x-api-key"}, {"http.request.header.x_api_key": " k1 "}, digest("k1")),
        ({"header": "x-api-key"}, {"http.request.header.x-api-key": ["k1", "k2"]}, None),
        ({"header": "x-api-key"}, {"http.request.header.x-api-key": "[REDACTED]"}, None),
        ({"header": "x-api-key"}, {"http.request.header.x-api-key": "none-of-us"}, None),
        ({"query": "key"}, {"url.query": "key=k%2B1"}, digest("k+1")),
        ({"query": "key"}, {"url.query": "key=REDACTED"}, None),
        (
            {"header": "authorization", "scheme": "Bearer"},
            {"http.request.header.authorization": "bearer k1"},
            digest("k1"),
        ),
        (
            {"header": "authorization", "scheme": "bearer"},
            {"http.request.header.authorization": "Bearer   k1 "},
            digest("k1"),
        ),
        ({"header": "authorization", "scheme": "bearer"}, {"http.request.header.authorization": "Basic k1"}, None),
        ({"header": "authorization", "scheme": "bearer"}, {"http.request.header.authorization": "k1"}, None),
        ({"header": "authorization", "scheme": "bearer"}, {"http.request.header.authorization": "Bearer"}, None),
        (
            {"header": "authorization", "scheme": "bearer"},
            {"http.request.header.authorization": "Bearer [REDACTED]"},
            None,
        ),
        ({"header": "authorization"}, {"http.request.header.authorization": "Bearer k1"}, digest("Bearer k1")),
        ({"header": "x-api-key", "hash": "none"}, {"http.request.header.x-api-key": "k1"}, "k1"),
        (
            {"header": "x-api-key", "hash": "hmac-sha256", "secret": "s3"},
            {"http.request.header.x-api-key": "k1"},
            hmac.digest(b"s3", b"k1", "sha256").hex(),
        ),
        ({"header": "x-api-key"}, {"http.request.header.x-api-key": "k" * 600}, digest("k" * 600)),
    ],
)
def test_api_key(options: Any, attributes: Any, user: str | None) -> None:
    """The user is the digest of the key without its scheme; a placeholder is recognised before it is hashed."""
    rule = policy(user={"api_key": options})
    batch = engine(rule, placeholders=["none-of-us"]).evaluate(payload(span(http() | attributes)), 0)
    assert only(batch).user == user


def test_sources_are_tried_in_order() -> None:
    """The first source that finds a user wins, and the record says which one it was."""
    rule = policy(user=[{"header": "x-account-id"}, {"query": "account"}, {"metadata": "enduser.id"}])
    query = {"url.query": "account=globex"}
    cases = [
        ({HEADER: "acme"} | query, "acme", "header x-account-id"),
        (query, "globex", "query account"),
        ({HEADER: "[REDACTED]"} | query, "globex", "query account"),
        ({HEADER: ["a", "b"]} | query, "globex", "query account"),
        ({"enduser.id": "initech"}, "initech", "metadata enduser.id"),
        ({}, None, None),
    ]
    for attributes, user, source in cases:
        record = only(judge(http() | attributes, rule))
        assert (record.user, record.source) == (user, source)


def test_placeholders_extend_the_list() -> None:
    """`placeholders` names further texts that are no user, without replacing the built-in ones."""
    judged = engine(policy(), placeholders=["anonymous"])
    for text in ("anonymous", " anonymous ", "[REDACTED]"):
        assert only(judged.evaluate(payload(span(http() | {HEADER: text})), 0)).user is None
    assert only(judged.evaluate(payload(span(http() | {HEADER: "Anonymous"})), 0)).user == "Anonymous"


def test_a_record_without_a_user_names_what_was_there() -> None:
    """Attribute names, never values, so that the policy can be mended; bounded in number and length."""
    attributes = http() | {"http.request.header.x-user": "secret-value", "k" * 500: "v"}
    record = only(judge(attributes | {f"a{number}": "v" for number in range(1000)}, policy()))
    assert record.reason == "no_user"
    assert len(record.seen) == 64
    assert all(len(name) <= 100 for name in record.seen)
    few = only(judge(attributes, policy()))
    assert "http.request.header.x-user" in few.seen
    assert "secret-value" not in repr(few)
