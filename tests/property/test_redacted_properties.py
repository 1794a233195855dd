"""A redacted value never becomes a user: through every source, in every spelling in which spans carry its value.

Instrumentations and gateways write markers in place of values. If one named a user, everybody whose name is redacted
would be one customer.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from hypothesis import given, settings
from hypothesis import strategies as st
from span_builder import NOW, engine, http, only, payload, policy, span

from otel_usageflow.policy.sources.catalogue import SOURCES
from otel_usageflow.policy.text import PLACEHOLDERS

OURS = frozenset({"<hidden>", "***MASKED***"})
"""What a configuration adds under `placeholders`."""
MARKERS = st.sampled_from(sorted(PLACEHOLDERS | OURS))
SPACE = st.sampled_from(["", " ", "  "])
HEADER = "http.request.header."
Attributes = Mapping[str, Any]


def _header(name: str, wrap: Callable[[str], str] = str) -> list[Callable[[str], Attributes]]:
    """A header as instrumentations capture it: with dashes or underscores, as a list or a text."""
    under = name.replace("-", "_")
    return [
        lambda value: {f"{HEADER}{name}": [wrap(value)]},
        lambda value: {f"{HEADER}{under}": [wrap(value)]},
        lambda value: {f"{HEADER}{name}": wrap(value)},
        lambda value: {f"{HEADER}{name}": [wrap(value), wrap(value)], f"{HEADER}{under}": wrap(value)},
        lambda value: {f"{HEADER}{name}": wrap(value).encode()},
    ]


def _query(value: str) -> list[Attributes]:
    pairs = f"a=1&q={quote_plus(value)}", f"%71={quote(value, safe='')}&q={quote_plus(value)}"
    return [
        form
        for pair in pairs
        for form in (
            {"url.query": pair},
            {"url.query": f"?{pair}"},
            {"http.target": f"/users/x?{pair}"},
            {"http.url": f"http://h/users/x?{pair}#y"},
            {"url.full": f"https://h/users/x?{pair}"},
        )
    ]


def _token(claims: Any) -> str:
    parts = ({"alg": "none"}, claims)
    head, body = (base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in parts)
    return f"Bearer {head}.{body}.x"


def _basic(value: str) -> str:
    return "Basic " + base64.b64encode(f"{value}:secret".encode()).decode()


def _body(made: Callable[[str], Any]) -> Callable[[str], Attributes]:
    return lambda value: {"http.request.body.content": json.dumps(made(value))}


def _path(value: str) -> list[Attributes]:
    text = f"/users/{quote(value, safe='')}"
    return [{"url.path": text}, {"http.target": f"{text}/?a=b"}, {"http.url": f"http://h{text}"}]


def _each(forms: Callable[[str], list[Attributes]]) -> list[Callable[[str], Attributes]]:
    return [lambda value, index=index: forms(value)[index] for index in range(len(forms("x")))]  # type: ignore[misc]


CARRIERS: dict[str, list[tuple[dict[str, Any], list[Callable[[str], Attributes]]]]] = {
    "header": [({"header": "x-id"}, _header("x-id"))],
    "api_key": [
        ({"api_key": {"header": "x-id"}}, _header("x-id")),
        ({"api_key": {"header": "x-id", "hash": "none"}}, _header("x-id")),
        ({"api_key": {"header": "x-id", "hash": "hmac-sha256", "secret": "s"}}, _header("x-id")),
        (
            {"api_key": {"header": "authorization", "scheme": "bearer"}},
            [*_header("authorization", lambda value: f"Bearer {value}"), *_header("authorization")],
        ),
        ({"api_key": {"query": "q"}}, _each(_query)),
    ],
    "jwt": [
        (
            {"jwt": {"claim": "sub", "verify": "none"}},
            [
                *_header("authorization", lambda value: _token({"sub": value})),
                *_header("authorization", lambda value: _token({"sub": [value]})),
                *_header("authorization"),
                *_header("authorization", lambda value: f"Bearer {value}"),
            ],
        ),
        (
            {"jwt": {"claim": "org.tenant", "verify": "none", "header": "x-token"}},
            _header("x-token", lambda value: _token({"org": {"tenant": value}})),
        ),
        (
            {"jwt": {"claim": "sub", "verify": "none", "cookie": "c"}},
            [lambda value: {f"{HEADER}cookie": f"c={value}"}],
        ),
    ],
    "query": [({"query": "q"}, _each(_query))],
    "path": [({"path": "id"}, _each(_path))],
    "body": [
        ({"body": "a"}, [_body(lambda value: {"a": value}), _body(lambda value: {"a": [value, value]})]),
        ({"body": "a.0.b"}, [_body(lambda value: {"a": [{"b": value}]})]),
        ({"body": "a"}, [lambda value: {"http.request.body.content": value}]),
    ],
    "metadata": [
        (
            {"metadata": "m"},
            [lambda value: {"m": value}, lambda value: {"m": [value]}, lambda value: {"m": value.encode()}],
        )
    ],
    "cookie": [
        (
            {"cookie": "c"},
            [
                *_header("cookie", lambda value: f'x=y; c="{value}"'),
                *_header("cookie", lambda value: f"c={value}"),
                *_header("cookie", lambda value: f"c={value};c={value}; d"),
                *_header("cookie"),
            ],
        )
    ],
    "baggage": [
        (
            {"baggage": "b"},
            [
                *_header("baggage", lambda value: f"x=y,b={quote(value, safe='')};p=1"),
                *_header("baggage", lambda value: f"b = {value} ,b={quote(value, safe='')}"),
                *_header("baggage"),
            ],
        )
    ],
    "client_certificate": [
        (
            {"client_certificate": "uri"},
            [
                *_header("x-forwarded-client-cert", lambda value: f'Hash=x;URI="{value}"'),
                *_header("x-forwarded-client-cert", lambda value: f"URI={value},URI={value}"),
                *_header("x-forwarded-client-cert"),
            ],
        ),
        (
            {"client_certificate": "subject"},
            [
                lambda value: {"tls.client.subject": value},
                *_header("x-forwarded-client-cert", lambda value: f'Subject="{value}"'),
            ],
        ),
        ({"client_certificate": "common_name"}, [lambda value: {"tls.client.subject": f"CN={value},O=x"}]),
    ],
    "basic_auth": [({"basic_auth": "user"}, [*_header("authorization", _basic), *_header("authorization")])],
    "template": [
        ({"template": "a/{header:x-id}"}, _header("x-id")),
        ({"template": "{query:q}/b"}, _each(_query)),
        (
            {"template": "{header:x-org}/{path:id}"},
            _each(lambda v: [{**one, f"{HEADER}x-org": "o"} for one in _path(v)]),
        ),
    ],
}
"""Source -> ways to write it in a policy, each with the spellings in which a span may carry a value for it."""

NO_CARRIERS = ({f"{HEADER}cookie": "c=acme"}, {"http.request.body.content": "acme"})
CASES = st.sampled_from(sorted(CARRIERS)).flatmap(
    lambda name: st.sampled_from(CARRIERS[name]).flatmap(
        lambda one: st.tuples(st.just(one[0]), st.sampled_from(range(len(one[1]))).map(lambda index: one[1][index]))
    )
)
Case = tuple[dict[str, Any], Callable[[str], Attributes]]
STEPS = st.lists(
    st.sampled_from(["lower", {"strip_prefix": "["}, {"strip_suffix": "]"}, {"regex": "^(.*)$"}]), max_size=2
)


def found(rule: Any, attributes: Attributes) -> str | None:
    """Whom a policy finds on a request with these attributes."""
    judged = engine(policy(endpoint="GET /users/:id", user=rule), placeholders=OURS)
    base = http("/users/x", method="GET")
    if any(key in attributes for key in ("http.target", "http.url", "url.full")):
        del base["url.path"]
    batch = judged.evaluate(payload(span({**base, **attributes})), NOW)
    return only(batch).user if batch.records else None  # an empty segment matches no parameter


def test_every_source_is_among_them() -> None:
    """A new source comes under these tests."""
    assert CARRIERS.keys() == SOURCES.keys()


def test_each_way_of_writing_a_source_finds_an_ordinary_value() -> None:
    """So that finding nobody says something."""
    for ways in CARRIERS.values():
        for rule, carriers in ways:
            if any(carry("acme") in NO_CARRIERS for carry in carriers):
                continue  # what is no token has no claim, and what is no JSON no member
            assert any(found(rule, carry("acme")) for carry in carriers), rule


@settings(max_examples=400)
@given(CASES, MARKERS, SPACE, SPACE)
def test_a_marker_is_nobody_in_any_spelling(case: Case, marker: str, before: str, after: str) -> None:
    """However the value was carried, escaped, repeated or surrounded by space."""
    rule, carry = case
    assert found(rule, carry(before + marker + after)) is None


@settings(max_examples=400)
@given(CASES, MARKERS, STEPS)
def test_the_next_source_is_asked(case: Case, marker: str, steps: list[Any]) -> None:
    """A source that found a marker is as one that found nothing: the next in the list answers, transformed or not."""
    rule, carry = case
    first = {**rule, **({"transform": steps} if steps else {})}
    attributes = {**carry(marker), "enduser.id": "next"}
    assert found([first, {"metadata": "enduser.id"}], attributes) in (
        {"next"} if "path" not in str(rule) else {"next", None}
    )


@settings(max_examples=400)
@given(CASES, MARKERS, st.sampled_from(["acme", "zoe"]), st.booleans())
def test_a_marker_beside_a_value_is_nobody_either(case: Case, marker: str, value: str, first: bool) -> None:
    """Two carriers of one value, one of them redacted: the value or nobody, never the marker or its digest."""
    rule, carry = case
    one, two = (carry(marker), carry(value)) if first else (carry(value), carry(marker))
    both = {key: [*_listed(one.get(key)), *_listed(two.get(key))] for key in {**one, **two}}
    user = found(rule, both)
    assert user in {None, found(rule, carry(value))}
    assert user not in {marker, hashlib.sha256(marker.encode()).hexdigest()}


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
