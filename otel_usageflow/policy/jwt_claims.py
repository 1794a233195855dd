"""Reading a JSON Web Token (RFC 7519), verified or not, as of the time of the request."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import jwt

from otel_usageflow.model.attributes import Value
from otel_usageflow.policy.json_value import parse_json, values_at
from otel_usageflow.policy.jwt_keys import VerificationKey

MAX_LENGTH: Final = 16_384
"""Characters of a token; no server takes headers as long."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a token must fulfil."""

    key: VerificationKey
    issuers: frozenset[str] | None = None
    audiences: frozenset[str] | None = None
    leeway: float = 0.0
    """Seconds by which clocks may differ."""


def unverified_claims(token: str) -> Any:
    """The claims as they stand; None if this is no token. Judges nothing."""
    parts = token.split(".")
    payload = _decoded(parts[1]) if len(parts) == 3 and len(token) <= MAX_LENGTH else None
    return _parsed(payload)


def verified_claims(token: str, verification: Verification, at_seconds: float) -> Any:
    """The claims of a token that was valid at a moment; None if it was not.

    Args:
        token: in compact form.
        verification: what it must fulfil.
        at_seconds: the moment, in seconds since 1970.
    """
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAX_LENGTH or not token.isascii():
        return None
    try:
        header = jwt.get_unverified_header(token)  # also refuses extensions (crit) that nobody here understands
    except jwt.PyJWTError:
        return None
    signature, payload = _decoded(parts[2]), _decoded(parts[1])
    algorithm = header.get("alg")
    if signature is None or not isinstance(algorithm, str) or header.get("b64", True) is not True:
        return None
    signed = token.rpartition(".")[0].encode()
    if not verification.key.verifies(algorithm, signed, signature):
        return None
    claims = _parsed(payload)
    return claims if _in_force(claims, verification, at_seconds) else None


def _in_force(claims: Any, verification: Verification, at: float) -> bool:
    expires, starts = values_at(claims, ["exp"]), values_at(claims, ["nbf"])
    if not all(_is_time(value) and value > at - verification.leeway for value in expires):
        return False
    if not all(_is_time(value) and value <= at + verification.leeway for value in starts):
        return False
    if verification.issuers is not None and not _among(values_at(claims, ["iss"]), verification.issuers):
        return False
    return verification.audiences is None or _meets(values_at(claims, ["aud"]), verification.audiences)


def _is_time(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _among(values: Sequence[Any], allowed: frozenset[str]) -> bool:
    return len(values) == 1 and isinstance(values[0], str) and values[0] in allowed


def _meets(values: Sequence[Any], allowed: frozenset[str]) -> bool:
    """Whether the one audience claim names one of ours; it may be a list."""
    if len(values) != 1:
        return False
    named = values[0] if isinstance(values[0], list) else [values[0]]
    return any(isinstance(name, str) and name in allowed for name in named)


def _decoded(part: str) -> bytes | None:
    try:
        return base64.b64decode(part.encode() + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


def _parsed(payload: bytes | None) -> Any:
    try:
        return None if payload is None else parse_json(payload.decode())
    except UnicodeDecodeError:
        return None
