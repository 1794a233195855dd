"""What the instrumentation of a stack does not carry, and what that makes of a request. Each has its reason.

Read off the recorded spans, and from the instrumentations' sources. Where a span carries a thing twice, once whole
and once damaged, as under `http/dup`, there is no difference: the whole one counts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from outcomes import Quarantined, Unbilled
from traffic import REQUESTS


@dataclass(frozen=True)
class Difference:
    """In these captures, this request of the traffic has another outcome.

    `becomes` is policy -> the user it is billed to, or None for `no_user`; empty means that no policy matches.
    `remedy` is a heading of page/remedies.md. A request of which there are several spans counts `times`.
    """

    request: str
    captures: frozenset[str]
    reason: str
    remedy: str
    becomes: Mapping[str, str | None] = field(default_factory=dict)
    times: int = 1


def _each(stacks: str, conventions: str) -> frozenset[str]:
    return frozenset(f"{stack}-{convention}" for stack in stacks.split() for convention in conventions.split())


_REMEDIED = _each("django-wsgiref-with-remedies", "http")
_WSGI = _each("flask django django-wsgiref", "old http dup") | _REMEDIED
_NODE = _each("node-http express fastify koa", "current old http dup")
_AIOHTTP = _each("aiohttp", "old http dup")
_GO_BARE = _each("otelhttp", "current")
_GO_OLDER = _each("otelhttp-with-remedies", "old dup")
_FASTAPI_BARE = _each("fastapi", "native")
_ASGI_OLD = _each("fastapi starlette", "old")
_NO_PATH = _each("django-wsgiref", "http")
_DECODED_PATH = (
    _each("flask django aiohttp", "http")
    | _REMEDIED
    | _each("fastapi starlette", "old http dup native")
    | _each("fastapi-with-remedies", "native")
    | _each("django-wsgiref", "old dup")
    | _GO_BARE
    | _GO_OLDER
)

_DECODED_QUERY = "the instrumentation decodes the query before it puts it into http.url, the only place that has it"
_NOTHING_BUT_A_ROUTE = (
    "the server gives WSGI no raw target: the stable names have neither path nor query, only a route"
)

_NO_HEADERS = "FastAPI's own telemetry has no setting that captures headers"

_IN_A_HEADER = frozenset(
    {*("header", "any", "key", "bearer", "jwt", "basic", "cookie", "baggage", "transform", "template")}
    | {"mounted", "fail", "attempts", "lookup", "chat", "tokens"}
)
"""Policies whose user is in a header."""


def _nobody(captures: frozenset[str], policies: frozenset[str], reason: str, remedy: str) -> Iterator[Difference]:
    """Every request of these policies is without a user."""
    for request in REQUESTS:
        judged = [o for o in request.outcomes if o.policy in policies and not isinstance(o, Unbilled)]
        if any(outcome != Quarantined(outcome.policy) for outcome in judged):
            yield Difference(request.name, captures, reason, remedy, {outcome.policy: None for outcome in judged})


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "header twice",
        _WSGI - _NO_PATH,
        "WSGI servers join the lines of a header with a comma: one value, of no customer",
        "A header that is sent twice",
        {"lines": "acme,globex"},
    ),
    Difference(
        "header twice",
        _NODE,
        "Node joins the lines of a header with a comma: one value, of no customer",
        "A header that is sent twice",
        {"lines": "acme, globex"},
    ),
    Difference(
        "query plus",
        _ASGI_OLD,
        f"{_DECODED_QUERY}: + may have been + or a space",
        "A query that is decoded too early",
        {"query": None},
    ),
    Difference(
        "query encoded plus",
        _ASGI_OLD,
        f"{_DECODED_QUERY}: + may have been + or a space",
        "A query that is decoded too early",
        {"query": None},
    ),
    Difference(
        "query encoded ampersand",
        _ASGI_OLD,
        f"{_DECODED_QUERY}: & now separates",
        "A query that is decoded too early",
        {"query": "a"},
    ),
    Difference(
        "path, encoded slash",
        _DECODED_PATH,
        "the path on the span is decoded: a segment more",
        "A slash within a path parameter",
    ),
    Difference(
        "path, not ASCII",
        _each("django-wsgiref", "old dup"),
        "http.url is put together again in Latin-1: %E9, which is no UTF-8",
        "A server without a raw target",
        {"path": None},
    ),
    Difference(
        "mounted",
        _each("flask", "http"),
        "url.path is WSGI's PATH_INFO, without the mount's SCRIPT_NAME",
        "An app mounted below a prefix (WSGI)",
    ),
    Difference(
        "mounted, remote parent",
        _each("flask", "http"),
        "url.path is WSGI's PATH_INFO, without the mount's SCRIPT_NAME",
        "An app mounted below a prefix (WSGI)",
    ),
    Difference(
        "path, encoded slash",
        _NO_PATH,
        f"{_NOTHING_BUT_A_ROUTE}, here of any number of segments",
        "A server without a raw target",
    ),
    *(
        Difference(request, _NO_PATH, _NOTHING_BUT_A_ROUTE, "A server without a raw target", {"path": None})
        for request in (
            "path",
            "path, trailing slash",
            "path, second spelling",
            "path, encoded space",
            "path, not ASCII",
            "path, encoded percent",
        )
    ),
    Difference(
        "header twice", _NO_PATH, _NOTHING_BUT_A_ROUTE, "A server without a raw target", {"lookup": "acme,globex"}
    ),
    Difference("joined", _NO_PATH, _NOTHING_BUT_A_ROUTE, "A server without a raw target", {"template": None}),
    *(
        Difference(request, _NO_PATH, _NOTHING_BUT_A_ROUTE, "A server without a raw target", {"query": None})
        for request in (
            "query",
            "query plus",
            "query space",
            "query encoded plus",
            "query encoded ampersand",
            "query encoded name",
            "query semicolon",
        )
    ),
    *(
        Difference(request, _NO_PATH, _NOTHING_BUT_A_ROUTE, "A server without a raw target", {"any": None})
        for request in ("fallback: second", "fallback: first is a placeholder")
    ),
    Difference(
        "header twice",
        _AIOHTTP,
        "the instrumentation keeps the last line of a header and says nothing of the others",
        "A header that is sent twice to aiohttp",
        {"lines": "globex"},
    ),
    *(
        Difference(
            request,
            _AIOHTTP,
            "every web.Application is instrumented, and each begins a trace of its own: two spans for one request",
            "An app mounted below a prefix (aiohttp)",
            {"mounted": user},
            times=2,
        )
        for request, user in (("mounted", "acme"), ("mounted, remote parent", "globex"))
    ),
    Difference(
        "fallback: first", _FASTAPI_BARE, _NO_HEADERS, "What FastAPI's own telemetry leaves out", {"any": "globex"}
    ),
    *_nobody(_FASTAPI_BARE, _IN_A_HEADER - {"any"}, _NO_HEADERS, "What FastAPI's own telemetry leaves out"),
    *_nobody(_GO_BARE, _IN_A_HEADER, "otelhttp has no setting that captures headers", "What Go leaves out"),
    *_nobody(_GO_BARE, frozenset({"query"}), "otelhttp puts no query onto the span", "What Go leaves out"),
)
