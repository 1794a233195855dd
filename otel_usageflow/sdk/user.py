"""Who a request belongs to, found in the app: only the answer leaves it."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from otel_usageflow.sdk.request import Request

FindUser: TypeAlias = Callable[[Request], str | int | None]
"""Gives the user of a request, or None. It is called when the response is complete, in the thread that served it."""
LONGEST = 500
"""Characters; the service takes none that is longer."""


def header(name: str) -> FindUser:
    """The value of a request header."""
    return lambda request: _one(request.headers.each(name))


def cookie(name: str) -> FindUser:
    """The value of a cookie."""
    return lambda request: _one(request.cookies.get(name, []))


def query(name: str) -> FindUser:
    """The value of a query parameter."""
    return lambda request: _one(request.query.get(name, []))


def api_key(
    *,
    header: str | None = None,
    query: str | None = None,
    scheme: str | None = None,
    hash: Literal["sha256", "hmac-sha256"] = "sha256",  # noqa: A002 - the word of the policies
    secret: str | None = None,
) -> FindUser:
    """The hex digest of an API key: what `user: {api_key: ...}` makes of it in a policy, made here.

    Args:
        header: the header that carries the key.
        query: or the query parameter that does.
        scheme: what stands before the key, for example `bearer`; a header without it is no user.
        hash: `sha256`, or `hmac-sha256` with a secret.
        secret: of `hmac-sha256`.

    Raises:
        ValueError: the settings do not fit each other.
    """
    if (header is None) == (query is None):
        raise ValueError("api_key needs either header or query, to say where the key is")
    if (hash == "hmac-sha256") != bool(secret) or hash not in {"sha256", "hmac-sha256"}:
        raise ValueError("api_key takes hash='sha256', or hash='hmac-sha256' with a secret")

    def find(request: Request) -> str | None:
        key = _one(request.headers.each(header) if header else request.query.get(query or "", []))
        key = _without_scheme(key, scheme)
        if not key:
            return None
        if secret:
            return hmac.digest(secret.strip().encode(), key.encode(), "sha256").hex()
        return hashlib.sha256(key.encode()).hexdigest()

    return find


def jwt(
    claim: str, *, verify: Literal["none"], header: str = "authorization", scheme: str | None = "bearer"
) -> FindUser:
    """A claim of a JSON Web Token, as it stands; `org.tenant` is a claim within a claim.

    The signature is not looked at, and `verify="none"` has to be written to say so: the app has judged the token, and
    answers 401 to a forged one, which a policy does not bill. Where it has not, give a function that verifies.
    """
    if verify != "none":
        raise ValueError('jwt verifies nothing: write verify="none", or give a function that verifies')
    names = claim.split(".")

    def find(request: Request) -> str | int | None:
        token = _without_scheme(_one(request.headers.each(header)), scheme)
        value: Any = _claims(token) if token else None
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, str | int) and not isinstance(value, bool) else None

    return find


def first_of(sources: Sequence[FindUser]) -> FindUser:
    """The first source that finds somebody."""

    def find(request: Request) -> str | int | None:
        return next((user for source in sources if (user := as_user(source(request))) is not None), None)

    return find


def as_user(value: object) -> str | None:
    """A user as text, trimmed; None for nobody, and for what is too long to be one.

    Raises:
        TypeError: it is neither text nor an integer.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"a user is text, not {type(value).__name__}")
    text = str(value).strip()
    return text if 0 < len(text) <= LONGEST else None


def _one(values: Sequence[str]) -> str | None:
    """The value that all of these are; nobody is guessed."""
    texts = {value.strip() for value in values}
    return texts.pop() if len(texts) == 1 else None


def _without_scheme(text: str | None, scheme: str | None) -> str | None:
    if text is None or scheme is None:
        return text
    found, _, rest = text.partition(" ")
    return rest.strip() if found.lower() == scheme.lower() else None


def _claims(token: str) -> object:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        return json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
