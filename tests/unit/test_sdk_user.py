"""Who a request belongs to, as the SDK finds out; and what never leaves the app."""

import base64
import json
from typing import Any

import pytest
from span_builder import user_of

import otel_usageflow.sdk as usageflow
from otel_usageflow.sdk.privacy import LONGEST, Privacy
from otel_usageflow.sdk.request import AsgiRequest, WsgiRequest
from otel_usageflow.sdk.user import LONGEST as LONGEST_USER
from otel_usageflow.sdk.user import FindUser, as_user, first_of


def asgi(query: bytes = b"", **headers: str) -> AsgiRequest:
    """A request with these headers."""
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return AsgiRequest({"type": "http", "method": "GET", "path": "/", "query_string": query, "headers": pairs})


def wsgi(query: str = "", **headers: str) -> WsgiRequest:
    """The same for WSGI."""
    return WsgiRequest({"QUERY_STRING": query, **{f"HTTP_{name.upper()}": value for name, value in headers.items()}})


def token(claims: object) -> str:
    """A token in compact form that nobody has signed."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "c2ln"])


CASES: list[tuple[FindUser, dict[str, str], str | None]] = [
    (usageflow.header("X-Account-Id"), {"x_account_id": " acme "}, "acme"),
    (usageflow.header("x-account-id"), {}, None),
    (usageflow.header("x-account-id"), {"x_account_id": "  "}, None),
    (usageflow.cookie("account"), {"cookie": "a=1; account=acme"}, "acme"),
    (usageflow.cookie("account"), {"cookie": "account=acme; account=globex"}, None),
    (
        usageflow.jwt("org.tenant", verify="none"),
        {"authorization": f"Bearer {token({'org': {'tenant': 'acme'}})}"},
        "acme",
    ),
    (usageflow.jwt("sub", verify="none"), {"authorization": f"Bearer {token({'sub': 7})}"}, "7"),
    (usageflow.jwt("sub", verify="none"), {"authorization": f"Bearer {token({'sub': True})}"}, None),
    (usageflow.jwt("sub", verify="none"), {"authorization": f"Bearer {token(['sub'])}"}, None),
    (usageflow.jwt("sub", verify="none"), {"authorization": "Bearer a.b.c"}, None),
    (usageflow.jwt("sub", verify="none"), {"authorization": "Basic abc"}, None),
    (first_of([usageflow.header("a"), usageflow.header("b")]), {"b": "acme"}, "acme"),
    (usageflow.header("x-account-id"), {"x_account_id": "x" * (LONGEST_USER + 1)}, None),
]


@pytest.mark.parametrize("number", range(len(CASES)))
@pytest.mark.parametrize("make", [asgi, wsgi])
def test_a_source_finds_one_or_nobody(make: Any, number: int) -> None:
    """The same user by ASGI and by WSGI; several values, blanks and what is too long are nobody."""
    find, headers, user = CASES[number]
    assert as_user(find(make(**headers))) == user


@pytest.mark.parametrize(
    ("options", "policy", "sent"),
    [
        ({"header": "x-api-key"}, {"header": "x-api-key"}, {"x-api-key": "key-of-acme"}),
        (
            {"header": "authorization", "scheme": "bearer"},
            {"header": "authorization", "scheme": "bearer"},
            {"authorization": "Bearer  key-of-acme"},
        ),
        (
            {"header": "x-api-key", "hash": "hmac-sha256", "secret": "s3cret"},
            {"header": "x-api-key", "hash": "hmac-sha256", "secret": "s3cret"},
            {"x-api-key": "key-of-acme"},
        ),
    ],
)
def test_a_key_has_the_digest_that_the_service_makes(
    options: dict[str, Any], policy: dict[str, Any], sent: dict[str, str]
) -> None:
    """A customer's metadata is the same whether the app or the service takes the digest."""
    here = usageflow.api_key(**options)(asgi(**{name.replace("-", "_"): value for name, value in sent.items()}))
    there = user_of({f"http.request.header.{name}": [value] for name, value in sent.items()}, {"api_key": policy})
    assert here == there is not None


def test_a_key_in_the_query() -> None:
    """A query parameter is decoded; a repeated one is nobody."""
    assert usageflow.query("a")(asgi(b"a=x%20y&b=1")) == "x y"
    assert usageflow.query("a")(wsgi("a=1&a=2")) is None


@pytest.mark.parametrize(
    "wrong",
    [{}, {"header": "a", "query": "b"}, {"header": "a", "hash": "hmac-sha256"}, {"header": "a", "secret": "b"}],
)
def test_wrong_settings_of_a_key_are_errors_at_the_start(wrong: dict[str, Any]) -> None:
    """What cannot be is refused before the first request."""
    with pytest.raises(ValueError, match="api_key"):
        usageflow.api_key(**wrong)


def test_reading_an_unverified_token_has_to_be_said() -> None:
    """The signature is not looked at, so the call must say so."""
    with pytest.raises(ValueError, match='verify="none"'):
        usageflow.jwt("sub", verify="signature")  # type: ignore[arg-type]


def test_secrets_stay_in_the_app() -> None:
    """Headers, bodies, queries, prompts and errors' texts are stripped; the rest of a span is kept."""
    secret = {
        "http.request.header.authorization": ["Bearer s3cret"],
        "http.request.header.x_api_key": ["s3cret"],
        "http.response.header.set_cookie": ["s3cret"],
        "http.request.body.content": "s3cret",
        "url.query": "key=s3cret",
        "http.target": "/a?key=s3cret",
        "http.url": "https://me:s3cret@host/a?key=s3cret#s3cret",
        "gen_ai.input.messages": "s3cret",
        "exception.message": "s3cret",
        "app.private.note": "s3cret",
        "long": "s3cret" * LONGEST,
    }
    kept = {"http.request.method": "GET", "app.tokens": 5, "gen_ai.usage.input_tokens": 7, "tags": ["a", "b"]}
    left, _ = Privacy(strip=["app.private."]).attributes(secret | kept)
    assert "s3cret" not in repr(left)
    assert left == {**kept, "tags": ("a", "b"), "http.target": "/a", "http.url": "https://host/a"}


def test_what_is_to_be_kept_is_kept() -> None:
    """`keep` names single attributes, which then stay as they are."""
    left, _ = Privacy(keep=["url.query", "http.request.header.x_plan"]).attributes(
        {"url.query": "a=b", "http.request.header.x_plan": ("pro",), "http.request.header.cookie": ("x",)}
    )
    assert left == {"url.query": "a=b", "http.request.header.x_plan": ("pro",)}
