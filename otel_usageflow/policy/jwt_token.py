"""Taking a token in compact form apart (RFC 7515 section 7.1, RFC 7519 section 7.2). Judges nothing but its form."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

from otel_usageflow.policy.json_value import parse_json
from otel_usageflow.policy.jwt_cause import Cause, Refused

MAX_LENGTH: Final = 16_384
"""Characters of a token; no server takes headers as long."""


@dataclass(frozen=True, slots=True)
class SignedToken:
    """The parts of a token; nothing about it is verified."""

    algorithm: str
    kid: str | None
    signed: bytes
    """What the signature is of."""
    signature: bytes
    claims: Any
    """A JSON object that keeps every value of a repeated name; see `json_value`."""


def read_token(token: str) -> SignedToken:
    """Take a token apart.

    Raises:
        Refused: it has not the form of a signed token that can be understood.
    """
    if len(token) > MAX_LENGTH:
        raise Refused(Cause.TOO_LONG)
    parts = token.split(".")
    if len(parts) == 5 and token.isascii() and "enc" in _object(parts[0]):
        raise Refused(Cause.ENCRYPTED)
    if len(parts) != 3 or not token.isascii():
        raise Refused(Cause.MALFORMED)
    header = _object(parts[0])
    if "crit" in header or header.get("b64", [True]) != [True]:
        raise Refused(Cause.EXTENSION)
    if str(_one(header, "cty", "")).upper().removeprefix("APPLICATION/") == "JWT":
        raise Refused(Cause.ENCRYPTED)
    algorithm, kid = _one(header, "alg", None), _one(header, "kid", None)
    if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)):
        raise Refused(Cause.MALFORMED)
    signature = _decoded(parts[2])
    if signature is None:
        raise Refused(Cause.MALFORMED)
    return SignedToken(algorithm, kid, token.rpartition(".")[0].encode(), signature, _object(parts[1]))


def unverified_claims(token: str) -> Any:
    """The claims as they stand; None if this is no token. Judges nothing."""
    parts = token.split(".")
    payload = _decoded(parts[1]) if len(parts) == 3 and len(token) <= MAX_LENGTH else None
    return _parsed(payload)


def _one(header: dict[str, list[Any]], name: str, default: Any) -> Any:
    """The one value of a member; a repeated one can be read in two ways, and is refused."""
    values = header.get(name, [default])
    if len(values) != 1:
        raise Refused(Cause.MALFORMED)
    return values[0]


def _object(part: str) -> dict[str, list[Any]]:
    document = _parsed(_decoded(part))
    if not isinstance(document, dict):
        raise Refused(Cause.MALFORMED)
    return document


def _parsed(payload: bytes | None) -> Any:
    try:
        return None if payload is None else parse_json(payload.decode())
    except UnicodeDecodeError:
        return None


def _decoded(part: str) -> bytes | None:
    try:
        return base64.b64decode(part.encode() + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
