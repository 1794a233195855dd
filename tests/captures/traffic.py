"""The traffic that every captured server gets, and, beside each request, what it must cost.

The outcomes are written by hand, from the contract alone: with oracle.py, which adds them up, this is the
oracle of the captures, and knows nothing of otel_usageflow.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from credentials import BEARER_GLOBEX, KEY_ACME, KEY_GLOBEX, digest, token
from outcomes import Billed, Outcome, Quarantined, Unbilled


@dataclass(frozen=True)
class Request:
    """One request as it is written to the socket, the status every server must answer, and its outcomes."""

    name: str
    method: str
    target: str
    status: int
    outcomes: tuple[Outcome, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None


def _account(user: str) -> tuple[tuple[str, str], ...]:
    return (("x-account-id", user),)


def _bearer(value: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {value}"),)


def _basic(user_and_password: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Basic {b64encode(user_and_password.encode()).decode()}"),)


def _cookie(value: str) -> tuple[tuple[str, str], ...]:
    return (("cookie", value),)


def _baggage(account: str) -> tuple[tuple[str, str], ...]:
    return (("baggage", f"region=eu,account={account}"),)


def _chat(name: str, body: Mapping[str, Any], tokens: Outcome, user: str = "acme") -> Request:
    outcomes = (Billed("chat", user), tokens)
    return Request(name, "POST", "/chat/completions", 200, outcomes, _account(user), json.dumps(body))


_CALLER = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
_OTHER_CALLER = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

_HEADER = (
    Request("header", "GET", "/by/header", 200, (Billed("header", "acme"),), _account("acme")),
    Request("header again", "GET", "/by/header", 200, (Billed("header", "acme"),), _account("acme")),
    Request("header of another", "GET", "/by/header", 200, (Billed("header", "globex"),), _account("globex")),
    Request(
        "two requests of one remote trace (1)",
        "GET",
        "/by/header",
        200,
        (Billed("header", "initech"),),
        (*_account("initech"), _CALLER),
    ),
    Request(
        "two requests of one remote trace (2)",
        "GET",
        "/by/header",
        200,
        (Billed("header", "initech"),),
        (*_account("initech"), _CALLER),
    ),
    Request("header, trailing slash", "GET", "/by/header/", 200, (Billed("header", "acme"),), _account("acme")),
    Request("header, not a user of the path", "GET", "/by/header?account=globex", 200, (Quarantined("header"),)),
    Request("header placeholder", "GET", "/by/header", 200, (Quarantined("header"),), _account("-")),
    Request("header blank", "GET", "/by/header", 200, (Quarantined("header"),), _account("")),
    Request("header of a HEAD", "HEAD", "/by/header", 200, (), _account("acme")),
    Request("preflight", "OPTIONS", "/by/header", 204, (), (("origin", "https://shop.example"),)),
    Request("header redacted", "GET", "/by/redacted", 200, (Quarantined("redacted"),), (("x-partner-id", "acme"),)),
    Request("fallback: first", "GET", "/by/any?account=globex", 200, (Billed("any", "acme"),), _account("acme")),
    Request("fallback: second", "GET", "/by/any?account=globex", 200, (Billed("any", "globex"),)),
    Request(
        "fallback: first is a placeholder",
        "GET",
        "/by/any?account=globex",
        200,
        (Billed("any", "globex"),),
        _account("-"),
    ),
)

_CREDENTIALS = (
    Request("key", "GET", "/by/key", 200, (Billed("key", digest(KEY_ACME)),), (("x-api-key", KEY_ACME),)),
    Request(
        "key of another", "GET", "/by/key", 200, (Billed("key", digest(KEY_GLOBEX)),), (("x-api-key", KEY_GLOBEX),)
    ),
    Request("key missing", "GET", "/by/key", 200, (Quarantined("key"),)),
    Request("bearer", "GET", "/by/bearer", 200, (Billed("bearer", digest(BEARER_GLOBEX)),), _bearer(BEARER_GLOBEX)),
    Request(
        "bearer, other scheme",
        "GET",
        "/by/bearer",
        200,
        (Quarantined("bearer"),),
        (("authorization", "Basic Z2xvYmV4Og=="),),
    ),
    Request("jwt", "GET", "/by/jwt", 200, (Billed("jwt", "acme"),), _bearer(token("acme"))),
    Request("jwt of another", "GET", "/by/jwt", 200, (Billed("jwt", "globex"),), _bearer(token("globex"))),
    Request("jwt forged", "GET", "/by/jwt", 200, (Quarantined("jwt"),), _bearer(token("acme", forged=True))),
    Request("jwt expired", "GET", "/by/jwt", 200, (Quarantined("jwt"),), _bearer(token("acme", expired=True))),
    Request("jwt unsigned", "GET", "/by/jwt", 200, (Quarantined("jwt"),), _bearer(token("acme", unsigned=True))),
    Request("jwt missing", "GET", "/by/jwt", 401, (Unbilled("jwt"),)),
    Request("basic", "GET", "/by/basic", 200, (Billed("basic", "acme"),), _basic("acme:secret")),
    Request("basic, nobody", "GET", "/by/basic", 200, (Quarantined("basic"),), _basic(":secret")),
    Request("cookie", "GET", "/by/cookie", 200, (Billed("cookie", "acme"),), _cookie("theme=dark; account=acme")),
    Request("cookie missing", "GET", "/by/cookie", 200, (Quarantined("cookie"),), _cookie("theme=dark")),
    Request("cookie twice", "GET", "/by/cookie", 200, (Quarantined("cookie"),), _cookie("account=a; account=b")),
    Request("baggage", "GET", "/by/baggage", 200, (Billed("baggage", "acme corp"),), _baggage("acme%20corp;p=1")),
    Request("baggage blank", "GET", "/by/baggage", 200, (Quarantined("baggage"),), _baggage("")),
    Request("transformed", "GET", "/by/transform", 200, (Billed("transform", "globex"),), _account("ACCT_Globex")),
    Request("transform does not fit", "GET", "/by/transform", 200, (Quarantined("transform"),), _account("Globex")),
    Request("joined", "GET", "/by/template/p1", 200, (Billed("template", "acme/p1"),), (("x-org", "acme"),)),
    Request("joined, a part missing", "GET", "/by/template/p1", 200, (Quarantined("template"),)),
)

_TARGET = (
    Request("query", "GET", "/by/query?page=2&account=acme", 200, (Billed("query", "acme"),)),
    Request("query plus", "GET", "/by/query?account=acme+corp", 200, (Billed("query", "acme corp"),)),
    Request("query space", "GET", "/by/query?account=acme%20corp", 200, (Billed("query", "acme corp"),)),
    Request("query encoded plus", "GET", "/by/query?account=a%2Bb", 200, (Billed("query", "a+b"),)),
    Request("query encoded ampersand", "GET", "/by/query?account=a%26b", 200, (Billed("query", "a&b"),)),
    Request("query encoded name", "GET", "/by/query?acc%6Funt=globex", 200, (Billed("query", "globex"),)),
    Request("query semicolon", "GET", "/by/query?account=a;b", 200, (Billed("query", "a;b"),)),
    Request("query repeated", "GET", "/by/query?account=acme&account=globex", 200, (Quarantined("query"),)),
    Request("query missing", "GET", "/by/query", 200, (Quarantined("query"),)),
    Request("path", "GET", "/orgs/acme/items?page=2", 200, (Billed("path", "acme"),)),
    Request("path, trailing slash", "GET", "/orgs/acme/items/", 200, (Billed("path", "acme"),)),
    Request("path, second spelling", "GET", "/organisations/globex/items", 200, (Billed("path", "globex"),)),
    Request("path, encoded space", "GET", "/orgs/acme%20corp/items", 200, (Billed("path", "acme corp"),)),
    Request("path, encoded slash", "GET", "/orgs/a%2Fb/items", 200, (Billed("path", "a/b"),)),
    Request("path, not ASCII", "GET", "/orgs/caf%C3%A9/items", 200, (Billed("path", "café"),)),
    Request("path, encoded percent", "GET", "/orgs/a%2541/items", 200, (Billed("path", "a%41"),)),
    Request("path, nobody", "GET", "/orgs/ghost/items", 404, (Unbilled("path"),)),
)

_BODY = (
    Request(
        "body", "POST", "/by/body", 201, (Billed("body", "acme"),), (), '{"user": {"account_id": "acme"}, "n": 1}'
    ),
    Request(
        "body not ASCII", "POST", "/by/body", 201, (Billed("body", "café"),), (), '{"user": {"account_id": "café"}}'
    ),
    Request("body without user", "POST", "/by/body", 201, (Quarantined("body"),), (), '{"user": {}}'),
    Request("body is no JSON", "POST", "/by/body", 400, (Unbilled("body"),), (), '{"user": '),
    Request(
        "metadata", "POST", "/by/metadata", 200, (Billed("metadata", "acme"),), (("x-session", "session-of-acme"),)
    ),
    Request("metadata missing", "POST", "/by/metadata", 200, (Quarantined("metadata"),)),
)

_QUANTITY = (
    _chat("tokens", {"tokens": 120}, Billed("tokens", "acme", "120")),
    _chat("tokens, none used", {"tokens": 0}, Billed("tokens", "acme", "0")),
    _chat("tokens, none used by another", {"tokens": 0}, Billed("tokens", "globex", "0"), user="globex"),
    _chat("tokens, a fraction", {"tokens": 2.5}, Billed("tokens", "initech", "2.5"), user="initech"),
    _chat("tokens, digits as text", {"tokens": "35"}, Billed("tokens", "initech", "35"), user="initech"),
    _chat("tokens, other text", {"tokens": "many"}, Quarantined("tokens", "bad_quantity")),
    _chat("tokens, negative", {"tokens": -1}, Quarantined("tokens", "bad_quantity")),
    _chat("tokens missing", {}, Quarantined("tokens", "bad_quantity")),
)

_STATUS = (
    Request("found", "GET", "/lookup/1", 200, (Billed("lookup", "acme"),), _account("acme")),
    Request(
        "header twice",
        "GET",
        "/lookup/lines",
        200,
        (Quarantined("lines"),),
        (*_account("acme"), *_account("globex")),
    ),
    Request("not found, billed", "GET", "/lookup/nothing", 404, (Billed("lookup", "acme"),), _account("acme")),
    Request("failed", "GET", "/fail", 500, (Unbilled("fail"), Billed("attempts", "acme")), _account("acme")),
    Request("mounted", "GET", "/mounted/items", 200, (Billed("mounted", "acme"),), _account("acme")),
    Request(
        "mounted, remote parent",
        "GET",
        "/mounted/items",
        200,
        (Billed("mounted", "globex"),),
        (*_account("globex"), _OTHER_CALLER),
    ),
    Request("health", "GET", "/healthz", 200),
    Request("no such route", "GET", "/nope", 404, (), _account("acme")),
)

REQUESTS: tuple[Request, ...] = _HEADER + _CREDENTIALS + _TARGET + _BODY + _QUANTITY + _STATUS
