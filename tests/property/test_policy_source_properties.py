"""What holds for every user source, transform, template and expression, on any input."""

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from span_builder import NOW, engine, http, judge, only, payload, policy, span, user_of

from otel_usageflow.errors import InvalidData
from otel_usageflow.policy.certificates import common_names, fingerprint, forwarded
from otel_usageflow.policy.expressions.expression import condition
from otel_usageflow.policy.http import host_only, path_segments
from otel_usageflow.policy.sources.catalogue import SOURCES
from otel_usageflow.policy.text import PLACEHOLDERS, is_user
from otel_usageflow.policy.transform import Step, transform

HEADER = "http.request.header."


def _claims(value: str) -> str:
    claims = base64.urlsafe_b64encode(f'{{"sub": "{value}"}}'.encode()).rstrip(b"=").decode()
    return f"Bearer e30.{claims}.x"


def _credentials(value: str) -> str:
    return "Basic " + base64.b64encode(f"{value}:secret".encode()).decode()


def _in_path(value: str) -> dict[str, Any]:
    return {"url.path": f"/users/{quote(value, safe='')}"}


CARRIERS: dict[str, tuple[dict[str, Any], Callable[[str], dict[str, Any]]]] = {
    "header": ({"header": "x-id"}, lambda value: {f"{HEADER}x-id": [value]}),
    "api_key": ({"api_key": {"header": "x-id"}}, lambda value: {f"{HEADER}x-id": value}),
    "jwt": ({"jwt": {"claim": "sub", "verify": "none"}}, lambda value: {f"{HEADER}authorization": _claims(value)}),
    "query": ({"query": "q"}, lambda value: {"url.query": f"q={quote(value, safe='')}"}),
    "path": ({"path": "id"}, _in_path),
    "body": ({"body": "a"}, lambda value: {"http.request.body.content": f'{{"a": "{value}"}}'}),
    "metadata": ({"metadata": "m"}, lambda value: {"m": value}),
    "cookie": ({"cookie": "c"}, lambda value: {f"{HEADER}cookie": f'x=y; c="{value}"'}),
    "baggage": ({"baggage": "b"}, lambda value: {f"{HEADER}baggage": f"x=y,b={quote(value, safe='')};p"}),
    "client_certificate": (
        {"client_certificate": "uri"},
        lambda value: {f"{HEADER}x-forwarded-client-cert": f'Hash=x;URI="{value}"'},
    ),
    "basic_auth": ({"basic_auth": "user"}, lambda value: {f"{HEADER}authorization": _credentials(value)}),
    "template": ({"template": "a/{header:x-id}"}, lambda value: {f"{HEADER}x-id": value}),
}
"""Source -> how it is written in a policy, and how a span carries a value for it."""

MARKERS = st.sampled_from(sorted(PLACEHOLDERS))
SPACE = st.text(" \t", max_size=2)
STEPS = st.lists(
    st.sampled_from(
        ["lower", {"strip_prefix": "id:"}, {"strip_suffix": ":x"}, {"regex": "([A-Za-z]+)"}, {"regex": "^(.*)$"}]
    ),
    max_size=3,
)


def _found(name: str, value: str, steps: list[Any]) -> str | None:
    """Whom a source finds on a request that carries a value for it."""
    rule, carry = CARRIERS[name]
    written = {**rule, "transform": steps} if steps else rule
    attributes = http("/users/x", method="GET") | carry(value)
    batch = judge(attributes, policy(endpoint="GET /users/:id", user=written))
    return only(batch).user if batch.records else None  # an empty segment matches no parameter


def test_every_source_is_among_them() -> None:
    """A new source comes under these tests."""
    assert CARRIERS.keys() == SOURCES.keys()


def test_every_carrier_carries() -> None:
    """Each source finds an ordinary value, so that finding nobody says something."""
    for name in CARRIERS:
        assert _found(name, "acme", []) is not None
        assert _found(name, "acme", ["lower"]) is not None


@given(st.sampled_from(sorted(CARRIERS)), MARKERS, SPACE, SPACE, STEPS)
def test_a_redacted_value_is_never_a_user(name: str, marker: str, before: str, after: str, steps: list[Any]) -> None:
    """Through every source and any transform; nor is a part of it, nor its digest."""
    space = "" if name == "body" else before  # a tab would not be JSON
    assert _found(name, space + marker + (after if space else ""), steps) is None


@given(
    st.sampled_from(sorted(set(CARRIERS) - {"template", "basic_auth"})),  # one adds to the value, one ends at a colon
    MARKERS,
    st.permutations(["lower", {"strip_prefix": "id:"}, {"strip_suffix": ":x"}]),
)
def test_what_a_transform_uncovers_is_no_user_if_it_is_redacted(name: str, marker: str, steps: list[Any]) -> None:
    """A redacted value within a longer one is no user once the rest is taken away, in whatever order."""
    assert _found(name, f"id:{marker}:x", list(steps)) is None


@given(MARKERS, st.sampled_from(["", "acme"]), st.booleans())
def test_a_redacted_part_spoils_a_template(marker: str, other: str, first: bool) -> None:
    """A template with a part that is redacted is no user, whichever part it is."""
    one, two = (marker, other) if first else (other, marker)
    attributes = {f"{HEADER}a": one, f"{HEADER}b": two}
    assert user_of(attributes, {"template": "{header:a}/{header:b}"}) is None


PARTS = st.text("ab/-", min_size=1, max_size=4)


@given(st.tuples(PARTS, PARTS, PARTS), st.tuples(PARTS, PARTS, PARTS), st.sampled_from(["/", "-", "//", "-/-", "a"]))
@example(("a/", "b", "a"), ("a", "/b", "a"), "/")
def test_a_template_tells_users_apart(one: tuple[str, ...], two: tuple[str, ...], between: str) -> None:
    """Different parts never make the same user."""
    rule = {"template": between.join(f"{{header:x{index}}}" for index in range(3))}

    def user(parts: tuple[str, ...]) -> str | None:
        return user_of({f"{HEADER}x{index}": part for index, part in enumerate(parts)}, rule)

    if one != two and user(one) is not None and "-" not in {*one, *two}:
        assert user(one) != user(two)


CHANGES = [Step(strip_prefix="A"), Step(strip_suffix="z"), Step(regex="(.{1,3})"), Step(regex="^x?(.*)$")]


@given(st.text(max_size=30), st.lists(st.sampled_from(["lower", *CHANGES]), max_size=4))
def test_what_comes_out_of_a_transform_can_be_a_user(text: str, steps: list[Any]) -> None:
    """It is trimmed and no placeholder, and the same text gives the same answer."""
    change = transform(steps, PLACEHOLDERS)
    text = text.strip()
    result = change(text) if is_user(text, PLACEHOLDERS) else None
    if result is not None:
        assert result == result.strip() != ""
        assert result not in PLACEHOLDERS
        assert change(text) == result


@given(st.text(max_size=30))
def test_normalising_again_changes_nothing(text: str) -> None:
    """Lower case, digests of certificates and path segments are the same after they were normalised once more."""
    lower = transform(["lower"], PLACEHOLDERS)
    once = lower(text.strip())
    assert once is None or lower(once) == once
    digest = fingerprint(text)
    assert digest is None or fingerprint(digest) == digest
    segments = path_segments("/" + quote(text, safe="/"))
    assert path_segments("/" + "".join(quote(segment, safe="") + "/" for segment in segments)) == segments


HOSTS = st.from_regex(r"\A[A-Za-z0-9-]{1,5}(\.[A-Za-z0-9-]{1,5}){0,2}\.?(:[0-9]{0,5})?\Z")


@given(HOSTS | st.sampled_from(["[::1]:80", "[2001:DB8::1]", "::1"]))
def test_a_host_is_normalised_once(host: str) -> None:
    """Without its port, a host is what it was."""
    assert host_only(host_only(host)) == host_only(host)


@given(st.text(max_size=60) | st.text('Subject="CN=a\\,;+/', max_size=40))
def test_any_certificate_is_read_or_passed_over(text: str) -> None:
    """Names and forwarded certificates raise nothing, whatever a caller sends."""
    assert forwarded(text) == forwarded(text)
    assert all(isinstance(name, str) for name in common_names(text))


VALUES = st.sampled_from(
    [
        "a",
        "",
        "[REDACTED]",
        "é",
        0,
        5,
        -1,
        2**63 - 1,
        1.5,
        float("nan"),
        True,
        b"\xff",
        None,
        ["a", "b"],
        [],
        {"a": 1},
    ]
)
ATOMS = st.sampled_from(
    [
        *("attributes.a", "attributes['b.c']", "resource.r", "span.status", "span.path", "span.duration_ns"),
        *("1", "2.5", "'a'", "true", "null", "[1, 'a']", "has(attributes.a)", "'a' in attributes", "span.route"),
    ]
)


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    forms = [
        "({} == {})",
        "({} != {})",
        "({} + {})",
        "({} / {})",
        "({} && {})",
        "({} || {})",
        "({} in {})",
        "({} > {})",
    ]
    return st.builds(lambda form, one, two: form.format(one, two), st.sampled_from(forms), parts, parts)


EXPRESSIONS = st.recursive(ATOMS, _joined, max_leaves=6)


@given(st.text(max_size=40) | EXPRESSIONS)
def test_any_condition_is_compiled_or_explained(text: str) -> None:
    """A condition is one, or a ValueError says why not; nothing else is raised."""
    with suppress(ValueError):
        condition(text)


@given(EXPRESSIONS, VALUES, VALUES, VALUES)
def test_naming_what_is_read_changes_no_answer(text: str, one: Any, two: Any, three: Any) -> None:
    """An expression that is given only the attributes it names says what it says when it is given all of them."""
    every = f"({text}) == true && attributes.all(k, k != '?') && resource.all(k, k != '?')"
    try:
        named, whole = condition(f"({text}) == true"), condition(every)
    except ValueError:
        return
    assert named.span_keys <= {"a", "b.c"}
    data = payload(
        span(http() | {"http.request.header.x-account-id": "acme", "a": one, "b.c": two, "d": three}),
        resource={"r": three},
    )
    outcomes = []
    for text_of in (named.text, whole.text):
        batch = engine(policy(match={"condition": text_of})).evaluate(data, NOW)
        outcomes.append((len(batch.records), batch.failed_conditions))
    assert outcomes[0] == outcomes[1]


EVERYTHING = engine(
    policy(
        name="all",
        endpoint="* /**",
        match={"condition": "attributes.exists(k, k.contains('a')) || resource.size() > 0"},
        user=[
            rule | {"transform": ["lower", {"regex": "^(.+)$"}]}
            for name, (rule, _) in CARRIERS.items()
            if name != "path"
        ],
        quantity={"expression": "has(attributes.m) ? attributes.m : attributes.n"},
        status="any",
    ),
    policy(name="path", event_name="b", endpoint="* /:id", user={"template": "{path:id}-{query:q}"}, status="any"),
)
KEYS = st.sampled_from(
    [
        *("http.request.method", "url.path", "url.query", "http.target", "http.response.status_code", "m", "n"),
        *(f"{HEADER}{name}" for name in ("x-id", "authorization", "cookie", "baggage", "x-forwarded-client-cert")),
        *("http.request.body.content", "tls.client.subject"),
    ]
)
TEXTS = st.text(max_size=20) | st.sampled_from(
    [
        'c="a',
        "c=a;c=b",
        "b=%",
        "b=%ff,b",
        'URI="a',
        "URI=a,URI=b",
        "Basic YTpi",
        "Basic ====",
        "Bearer a.e30.c",
        '{"a": 1}',
    ]
)


@given(st.lists(st.tuples(KEYS, VALUES | TEXTS | st.lists(TEXTS, max_size=2)), max_size=8), st.integers(0, 2**64 - 1))
def test_any_span_has_one_answer(attributes: Any, end: int) -> None:
    """Every source and expression survives any attributes, and gives the same answer again."""
    data = payload(span(attributes, end=end))
    batch = EVERYTHING.evaluate(data, NOW)
    assert batch == EVERYTHING.evaluate(data, NOW)
    for record in batch.records:
        assert (record.user is None) == (record.reason == "no_user")
        if record.user is not None:
            assert is_user(record.user, PLACEHOLDERS)
            assert record.user == record.user.strip()
            record.user.encode()


@given(st.data(), st.lists(st.integers(0, 255), min_size=1, max_size=4))
def test_a_damaged_request_is_read_or_invalid(data: st.DataObject, bytes_put: list[int]) -> None:
    """A request with bytes changed anywhere raises InvalidData and nothing else, all attributes decoded or not."""
    attributes = http(m=5)
    for _, carry in CARRIERS.values():
        attributes |= carry("acme")
    damaged = bytearray(payload(span(attributes)))
    for byte in bytes_put:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = byte
    with suppress(InvalidData):
        EVERYTHING.evaluate(bytes(damaged), NOW)


@given(st.text(max_size=30) | st.from_regex(r"[{}a-z:/]{0,20}", fullmatch=True))
def test_any_template_is_read_or_explained(text: str) -> None:
    """A template is one, or the configuration says why not."""
    with suppress(ValidationError):
        policy(user={"template": text})


@given(st.text(max_size=20))
def test_any_regular_expression_is_read_or_explained(text: str) -> None:
    """A pattern is one with one group, or the configuration says why not; those that are find what RE2 finds."""
    with suppress(ValidationError):
        policy(user={"header": "x", "transform": {"regex": text}})
    with suppress(ValidationError):
        rule = {"header": "x-id", "transform": {"regex": f"^({re.escape(text)})$"}}
        if is_user(text, PLACEHOLDERS) and text == text.strip() and "\n" not in text and text.isascii():
            assert user_of({f"{HEADER}x-id": text}, rule) == text
