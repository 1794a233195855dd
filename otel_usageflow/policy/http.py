"""What a span says about its HTTP request, in old and new semantic conventions alike.

The new names win where a span has both (`http/dup`). Sources: semantic-conventions docs/http/http-spans.md and
docs/non-normative/http-migration.md.
"""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote, unquote_plus, unquote_to_bytes

from otel_usageflow.model.attributes import Found, Raw, Value, decode_found
from otel_usageflow.policy import servlet_path
from otel_usageflow.policy.text import one_text

METHODS: Final = ("http.request.method", "http.method")
STATUSES: Final = ("http.response.status_code", "http.status_code")
URLS: Final = ("url.full", "http.url")
RPC: Final = ("rpc.system", "rpc.system.name")
HTTP_KEYS: Final = frozenset({*METHODS, *STATUSES, *URLS, "url.path", "http.target", "http.route"})
"""A span with any of these is an HTTP request, unless it has one of `RPC`."""
BASE_KEYS: Final = HTTP_KEYS | {*RPC, "http.request.method_original"}
"""What is read from every SERVER span."""
QUERY_KEYS: Final = frozenset({"url.query", "http.target", *URLS})
HOST_KEYS: Final = frozenset({"server.address", "http.host", "net.host.name", "http.server_name", *URLS})

# These decode the query before they put it into http.url: a plus in it may have been a plus or a space, a percent
# sign may be a percent sign, and nobody is guessed.
_DECODED_URL_SCOPES: Final = frozenset(
    f"opentelemetry.instrumentation.{name}" for name in ("asgi", "fastapi", "starlette")
)
# An ASGI server hands the path on decoded, and these, with FastAPI's own telemetry, have no other: what is left of
# percent signs in it was sent as %25. Where a slash was sent as %2F cannot be told any more.
_DECODED_PATH_SCOPES: Final = _DECODED_URL_SCOPES | {"fastapi"}
# These decode the path for url.path alone; http.target, where they set it, is as it was sent.
_DECODED_URL_PATH_SCOPES: Final = frozenset(
    f"opentelemetry.instrumentation.{name}" for name in ("wsgi", "flask", "django", "aiohttp_server")
)
# Go's write the decoded path into url.path, and older ones into http.target as well.
_GO_SCOPES: Final = "go.opentelemetry.io/"
# url.path is WSGI's PATH_INFO, in which a character stands for a byte (PEP 3333).
_LATIN_1_SCOPES: Final = frozenset({"opentelemetry.instrumentation.wsgi", "opentelemetry.instrumentation.flask"})


class _Memo(dict[Raw, Any]):
    """Remembers what came of attributes of which there are only a few distinct ones, such as the method."""

    def __init__(self, decide: Callable[[Value], Any]) -> None:
        super().__init__()
        self._decide = decide

    def __missing__(self, raw: Raw) -> Any:
        result = self._decide(decode_found(raw))
        if len(self) < _FEW and len(raw) < _SHORT:
            self[raw] = result
        return result


_FEW: Final = 1024
_SHORT: Final = 100


def is_http(found: Found) -> bool:
    """Whether a SERVER span with these attributes is an HTTP request; a gRPC call is none."""
    return not HTTP_KEYS.isdisjoint(found) and "rpc.system" not in found and "rpc.system.name" not in found


def method(found: Found) -> str | None:
    """The method in capitals, also one that the conventions do not know."""
    for key in METHODS:
        if key in found and (name := _method_of[found[key]]):
            if name == "_OTHER":
                return (_text(found, "http.request.method_original") or name).upper()
            return str(name)
    return None


def status(found: Found) -> int | None:
    """The response's status code; None if the request ended without one, or if it is none (Envoy's 0)."""
    for key in STATUSES:
        if key in found and (code := _status_of[found[key]]) is not None:
            return int(code)
    return None


def path(found: Found) -> str | None:
    """The path as it was sent, percent-encoded; None if the span has none."""
    text = _text(found, "url.path")
    if text and "http.target" not in found:
        return text
    target = _target_path(found)
    if text and target and text != target and _is_part_of(text, target):
        return target  # Python's WSGI: the new name has the path decoded and without its mount point
    if text or target:
        return text or target
    for key in URLS:
        url = _text(found, key)
        if url:
            return _path_of_url(url)
    return None


def segments(found: Found, scope: str) -> list[str] | None:
    """The path in segments, decoded once, whatever the instrumentation of this scope did; None without a path."""
    text = path(found)
    if text is None:
        return None
    if "%" in text or not text.isascii():
        if _is_url_path(text, found):
            if scope in _LATIN_1_SCOPES:
                text = _utf_8(text)
            if scope in _DECODED_URL_PATH_SCOPES:
                text = text.replace("%", "%25")
        if scope.startswith(_GO_SCOPES) and text == (_text(found, "url.path") or _target_path(found)):
            text = text.replace("%", "%25")
    if servlet_path.in_container(scope) and (canonical := servlet_path.canonical(text)) is not None:
        return canonical
    return path_segments(text, scope)


def _is_url_path(text: str, found: Found) -> bool:
    return text == _text(found, "url.path") and text != _target_path(found)


def _utf_8(latin_1: str) -> str:
    try:
        return latin_1.encode("latin-1").decode()
    except UnicodeError:
        return latin_1


def _target_path(found: Found) -> str | None:
    target = _text(found, "http.target") or ""
    if not target.startswith("/") and "://" in target.partition("?")[0]:  # absolute form, to a proxy
        return _path_of_url(target)
    return target.partition("#")[0].partition("?")[0] or None


def _is_part_of(text: str, target: str) -> bool:
    """Whether the target, decoded, ends with the text, be it UTF-8 or, as in PATH_INFO, Latin-1."""
    decoded = unquote_to_bytes(target.encode("utf-8", "surrogateescape"))
    return decoded.endswith((text.encode("utf-8", "surrogateescape"), text.encode("latin-1", "replace")))


def route(found: Found) -> str | None:
    """The framework's route template, in the framework's own spelling."""
    return _text(found, "http.route") or None


def host(found: Found) -> str | None:
    """The host that was asked for, in lower case and without its port."""
    name = _text(found, "server.address")
    if not name:
        for key in URLS:
            url = _text(found, key)
            if url and "://" in url:
                name = _authority(url)
                break
    name = name or _first(found, ("http.host", "net.host.name", "http.server_name"))
    return host_only(name) if name else None


def host_only(name: str) -> str:
    """A host in lower case, without port, brackets and the root's dot."""
    name = name.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    head, colon, port = name.rpartition(":")
    if colon and ":" not in head and (port.isdigit() or not port):
        name = head
    return name.removesuffix(".")


def query_values(found: Found, scope: str, name: str) -> list[Value]:
    """All values that the query has under this name, decoded; bytes where they are not UTF-8."""
    query = _text(found, "url.query") or ""
    decoded = False
    if not query:
        query = (_text(found, "http.target") or "").partition("#")[0].partition("?")[2]
    for key in URLS:
        if not query:
            query = (_text(found, key) or "").partition("#")[0].partition("?")[2]
            decoded = bool(query) and key == "http.url" and scope in _DECODED_URL_SCOPES
    values: list[Value] = []
    for pair in query.removeprefix("?").split("&"):
        raw_name, _, raw_value = pair.partition("=")
        if decoded:
            if raw_name == name:
                values.append(None if "+" in raw_value or "%" in raw_value else raw_value)
        elif unquote_plus(raw_name, errors="surrogateescape") == name:
            values.append(unquote_plus(raw_value, errors="surrogateescape"))
    return values


def path_segments(text: str, scope: str = "") -> list[str]:
    """Split a path into decoded segments; one trailing slash is ignored, broken UTF-8 is kept as escapes."""
    text = text.removeprefix("/").removesuffix("/")
    if not text:
        return []
    segments = text.split("/")
    if "%" in text and scope not in _DECODED_PATH_SCOPES:
        return [unquote(segment, errors="surrogateescape") if "%" in segment else segment for segment in segments]
    return segments


def _text(found: Found, key: str) -> str | None:
    """One attribute as it stands; None if it is missing or not one text."""
    raw = found.get(key)
    value = None if raw is None else decode_found(raw)
    return value if value is None or isinstance(value, str) else one_text((value,))


def _as_text(value: Value) -> str | None:
    return value if isinstance(value, str) else one_text((value,))


def _first(found: Found, keys: tuple[str, ...]) -> str | None:
    for key in keys:
        if text := _text(found, key):
            return text
    return None


def _code(value: Value) -> int | None:
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if isinstance(value, str):
        value = value.strip()
        value = int(value) if len(value) == 3 and value.isascii() and value.isdigit() else None
    elif isinstance(value, float):
        value = int(value) if value in _CODES else None
    return value if isinstance(value, int) and 100 <= value <= 599 else None


_CODES: Final = range(100, 600)

_method_of: Final = _Memo(lambda value: (_as_text(value) or "").upper())
_status_of: Final = _Memo(_code)


def _authority(url: str) -> str:
    rest = url.partition("://")[2]
    for end in "/?#":
        rest = rest.partition(end)[0]
    return rest.rpartition("@")[2]


def _path_of_url(url: str) -> str:
    rest = url.partition("#")[0].partition("?")[0]
    if "://" not in rest:
        return rest or "/"
    slash = rest.partition("://")[2].partition("/")
    return slash[1] + slash[2] or "/"
