"""What one request carries that could name a user: the same places that policies read, found without a policy."""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from otel_usageflow.model.attributes import Found, Value, decode, decode_found, name_of
from otel_usageflow.policy import http
from otel_usageflow.policy.discovery.naming import is_common_header, is_standard, names_key, names_user
from otel_usageflow.policy.discovery.template import PEOPLE, Template, identifies, parameter_names
from otel_usageflow.policy.endpoint import Part
from otel_usageflow.policy.grpc import METADATA
from otel_usageflow.policy.sources.body import BODY_ATTRIBUTE
from otel_usageflow.policy.sources.header import PREFIX, TOKEN
from otel_usageflow.policy.text import PLACEHOLDERS, is_user, one_text

LONGEST_BODY: Final = 65_536
_MANY: Final = 64
"""Names that are taken from one query, cookie header, body or token."""
HEADERS: Final = (PREFIX, *METADATA)
"""What the names of attributes with headers, and with the metadata of gRPC calls, begin with."""
_MOST_USES: Final = 10_000
"""Attribute names whose meaning is remembered."""
_MOST_PLACES: Final = 256
"""Places of one request."""
_LONGEST_NAME: Final = 100
_REDACTED: Final = re.compile(r"(?i)\*{3,}|x{5,}|[\[<(]?(redacted|masked|filtered|hidden|removed|scrubbed)[\])>]?")
_PARAMETER: Final = re.compile(r"[A-Za-z_][A-Za-z_.\[\]-]{0,39}[0-9]?")
_NOT_CLAIMS: Final = frozenset(("iat", "exp", "nbf", "jti", "aud", "iss", "scope", "scp", "typ", "nonce"))


class Place(NamedTuple):
    """Where a user may stand: a source of policies, and a name in it."""

    source: str
    """header, api_key, bearer, jwt, basic_auth, cookie, baggage, query, query_key, path, metadata, resource, body,
    client_certificate."""
    name: str

    @property
    def secret(self) -> bool:
        """Whether what stands there gives access, and so is never shown."""
        return self.source in {"api_key", "bearer", "cookie", "query_key"}


class Fact(NamedTuple):
    """What a request has at a place."""

    text: str | None
    """None where it is no user: nothing, several values, a placeholder."""
    redacted: bool = False


class _Use(NamedTuple):
    kind: str
    name: str


class Facts:
    """Finds places. Remembers what attribute names mean, because there are only a few."""

    def __init__(self) -> None:
        self._uses: dict[bytes, _Use | None] = {}

    def of_request(self, attributes: Sequence[bytes], found: Found, scope: str) -> dict[Place, Fact]:
        """All places of one request at which something stands, but for those in its path."""
        values: dict[Place, list[Value]] = {}
        for use, value in self._used(attributes):
            if use.kind == "header":
                _from_header(use.name, value, values)
            elif use.kind == "body":
                _from_body(value, values)
            else:
                values.setdefault(Place(use.kind, use.name), []).append(value)
            if len(values) > _MOST_PLACES:
                break
        _from_query(found, scope, values)
        return {place: fact(given) for place, given in values.items()}

    def of_resource(self, attributes: Sequence[bytes]) -> dict[Place, Fact]:
        """The places of a resource whose names speak of a user."""
        return {
            Place("resource", use.name): fact([value])
            for use, value in self._used(attributes)
            if use.kind == "metadata" and names_user(use.name)
        }

    def _used(self, attributes: Sequence[bytes]) -> Iterator[tuple[_Use, Value]]:
        for raw in attributes:
            prefix = raw[: raw[1] + 2] if len(raw) > 1 and raw[0] == 0x0A and raw[1] < 128 else b""
            use = self._uses.get(prefix) if prefix else None
            if use is None and (not prefix or prefix not in self._uses):
                use = _use(name_of(raw))
                if prefix and len(self._uses) < _MOST_USES:
                    self._uses[prefix] = use
            if use is not None:
                yield use, decode(raw)


def fact(values: Iterable[Value]) -> Fact:
    """What several values at one place are together."""
    values = list(values)
    text = one_text(values)
    if text is None:
        return Fact(None)
    if _REDACTED.fullmatch(text):
        return Fact(None, redacted=True)
    return Fact(text if is_user(text, PLACEHOLDERS) else None)


def _use(name: str) -> _Use | None:
    if len(name) > _LONGEST_NAME:
        return None
    if prefix := next((one for one in HEADERS if name.startswith(one)), ""):
        header = name.removeprefix(prefix).lower().replace("_", "-")
        return _Use("header", header) if TOKEN.fullmatch(header) and not is_common_header(header) else None
    if name == BODY_ATTRIBUTE:
        return _Use("body", "")
    if name == "tls.client.subject":
        return _Use("client_certificate", "subject")
    if not name.strip() or is_standard(name) or not name.isprintable():
        return None
    return _Use("metadata", name)


def _from_header(name: str, value: Value, values: dict[Place, list[Value]]) -> None:
    text = one_text((value,))
    if name == "authorization":
        for place, one in _credentials(text):
            values.setdefault(place, []).append(one)
    elif name == "cookie":
        for part in (text or "").split(";")[:_MANY]:
            key, equals, one = part.partition("=")
            if equals and _is_name(key.strip()):
                values.setdefault(Place("cookie", key.strip()), []).append(one.strip().strip('"'))
    elif name == "baggage":
        for part in (text or "").split(",")[:_MANY]:
            key, equals, one = part.partition(";")[0].partition("=")
            if equals and _is_name(key.strip()):
                values.setdefault(Place("baggage", key.strip()), []).append(one.strip())
    elif name == "x-forwarded-client-cert":
        values.setdefault(Place("client_certificate", "subject"), []).append(value)
    else:
        values.setdefault(Place("api_key" if names_key(name) else "header", name), []).append(value)


def _is_name(text: str) -> bool:
    """Whether a caller's name of a cookie or an entry looks like a name, not like an identifier."""
    return TOKEN.fullmatch(text) is not None and not identifies(text)


def _credentials(text: str | None) -> Iterator[tuple[Place, Value]]:
    scheme, _, rest = (text or "").partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer" and rest:
        claims = _claims(rest)
        if claims is None:
            yield Place("bearer", "authorization"), rest
        else:
            for name, value in list(claims.items())[:_MANY]:
                if isinstance(value, str | int) and name not in _NOT_CLAIMS and _PARAMETER.fullmatch(name):
                    yield Place("jwt", name), value
    elif scheme.lower() == "basic" and rest:
        try:
            user, colon, _ = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return
        if colon:
            yield Place("basic_auth", "user"), user
    elif text and not rest:
        yield Place("api_key", "authorization"), text


def _claims(token: str) -> Mapping[str, Any] | None:
    """The claims of what has the form of a JWT; nothing is verified, because nothing is billed."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > LONGEST_BODY:
        return None
    try:
        made = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return made if isinstance(made, dict) else None


def _from_body(value: Value, values: dict[Place, list[Value]]) -> None:
    text = one_text((value,))
    if not text or len(text) > LONGEST_BODY or text[0] != "{":
        return
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return
    pairs = [(name, one) for name, one in list(body.items())[:_MANY]]
    pairs += [
        (f"{name}.{below}", two)
        for name, one in pairs
        if isinstance(one, dict)
        for below, two in list(one.items())[:_MANY]
    ]
    for name, one in pairs:
        if isinstance(one, str | int) and re.fullmatch(r"[A-Za-z_]+(\.[A-Za-z_]+)?", name) and names_user(name):
            values.setdefault(Place("body", name), []).append(one)


def _from_query(found: Found, scope: str, values: dict[Place, list[Value]]) -> None:
    query = ""
    for key in ("url.query", "http.target", *http.URLS):
        text = one_text((decode_found(found[key]),)) if key in found else None
        query = (text or "") if key == "url.query" else (text or "").partition("#")[0].partition("?")[2]
        if query:
            break
    names = [pair.partition("=")[0] for pair in query.removeprefix("?").split("&") if "=" in pair]
    for name in dict.fromkeys(names[:_MANY]):
        if _PARAMETER.fullmatch(name):
            place = Place("query_key" if names_key(name) else "query", name)
            values.setdefault(place, []).extend(http.query_values(found, scope, name))


def of_path(path: Sequence[str], template: Template) -> dict[Place, Fact]:
    """What stands in a path where its template has a parameter."""
    return {place: fact((path[index],)) for index, place in path_places(template).items() if index < len(path)}


def path_places(template: Template) -> dict[int, Place]:
    """Where a template has a parameter of one segment, and the place that this is: `users/{id}`."""
    names = parameter_names(template)
    return {
        index: Place("path", f"{_literal_before(template, index)}/{{{names[index]}}}")
        for index, segment in enumerate(template)
        if segment.part is Part.ONE
    }


def _literal_before(template: Template, index: int) -> str:
    return template[index - 1].text if index and template[index - 1].part is Part.LITERAL else ""


def path_parameter(place: Place) -> str:
    """The name of the parameter that a place in the path is."""
    return place.name.rpartition("{")[2].removesuffix("}")


def could_be_user(place: Place) -> bool:
    """Whether a place is, by its name, one that names who asked."""
    if place.source in {"bearer", "basic_auth", "api_key", "query_key", "client_certificate", "resource", "body"}:
        return True
    if place.source == "path":
        before = place.name.partition("/")[0].lower()
        return before in PEOPLE or names_user(path_parameter(place))
    return names_user(place.name)
