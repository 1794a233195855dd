"""Reading a JSON Web Key Set (RFC 7517): the keys in it that verify signatures, and why the others are left out."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from otel_usageflow.policy.jwt_keys import (
    EDWARDS_ALGORITHMS,
    MAX_BYTES,
    RSA_ALGORITHMS,
    SECRET_ALGORITHMS,
    VerificationKey,
    prepared,
)

MAX_KEYS: Final = 100
"""A token without a `kid` may have to be tried with all of them."""
_LEAST_RSA: Final = 2048
_LARGEST_RSA: Final = 8192
_LEAST_SECRET: Final = 32
_EC: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "secp256k1": "ES256K"}


@dataclass(frozen=True, slots=True)
class JwkSet:
    """What was read."""

    keys: tuple[VerificationKey, ...]
    ignored: tuple[str, ...]
    """One sentence for each key that is left out, without anything of the key itself but its position and `kid`."""


def read_key_set(data: bytes, place: str, algorithms: Sequence[str] | None = None, *, public: bool = False) -> JwkSet:
    """Read a key set. Keys that cannot be used are left out, as RFC 7517 section 5 wants it.

    Args:
        data: JSON.
        place: its path or address, for errors.
        algorithms: if given, the only ones that are allowed.
        public: whether others can read it, so that no shared secret can be in it.

    Raises:
        ValueError: it is none, or no key in it can be used.
    """
    entries = _entries(data, place)
    keys: dict[bytes, VerificationKey] = {}
    ignored: list[str] = []
    for index, entry in enumerate(entries):
        try:
            key = _key(entry, algorithms, public)
        except _Unusable as error:
            ignored.append(f"{_name(index, entry)} {error}")
        else:
            keys[key.mark] = key
    if not keys:
        why = f": {'; '.join(ignored[:3])}" if ignored else ""
        raise ValueError(f"{place} has no key that can be used{why}")
    return JwkSet(tuple(keys.values()), tuple(ignored))


class _Unusable(Exception):
    """Why a key is left out."""


def _entries(data: bytes, place: str) -> list[Any]:
    if len(data) > MAX_BYTES:
        raise ValueError(f"{place} is larger than {MAX_BYTES} bytes, which no key set is")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(f"{place} is no JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        single = isinstance(document, dict) and "kty" in document
        raise ValueError(
            f"{place} is {'a single key' if single else 'no key set'}; a key set is " + '{"keys": [...]} (RFC 7517)'
        )
    if len(entries) > MAX_KEYS:
        raise ValueError(f"{place} has {len(entries)} keys; at most {MAX_KEYS} are taken")
    return entries


def _name(index: int, entry: Any) -> str:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return f"key {index} ({kid[:60]!r})" if isinstance(kid, str) else f"key {index}"


def _key(entry: Any, algorithms: Sequence[str] | None, public: bool) -> VerificationKey:
    if not isinstance(entry, dict):
        raise _Unusable("is no object")
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise _Unusable("has a kid that is no text")
    if entry.get("use", "sig") != "sig":
        raise _Unusable("is not for signatures (use)")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _Unusable("is not for verifying (key_ops)")
    kind = entry.get("kty")
    if public and kind == "oct":
        raise _Unusable("is a shared secret, which is none where others can read it; write it in a jwks_file")
    if kind in ("RSA", "EC", "OKP") and "d" in entry:
        raise _Unusable("is a private key; only public ones belong there")
    read = _KINDS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise _Unusable("is of a kind that signs no JWT (kty)")
    try:
        key, allowed = read(entry)
        names = _narrowed(allowed, entry.get("alg"), algorithms)
        ready = {name: prepared(name, key) for name in names}
    except (jwt.PyJWTError, UnsupportedAlgorithm, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise _Unusable("is damaged, or of a kind that is not known here") from None
    digest = hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).digest()
    return VerificationKey(ready, kid, digest)


def _narrowed(allowed: Sequence[str], own: Any, wanted: Sequence[str] | None) -> list[str]:
    """The algorithms of the key's kind that its own `alg` and the configuration allow."""
    if own is not None:
        if own not in allowed:
            raise _Unusable("has an algorithm that does not go with it (alg)")
        allowed = allowed if own in EDWARDS_ALGORITHMS else (own,)  # two names of one thing
    names = [name for name in allowed if wanted is None or name in wanted]
    if not names:
        raise _Unusable("goes with none of the algorithms that are configured")
    return names


def _rsa(entry: Mapping[str, Any]) -> tuple[Any, Sequence[str]]:
    key = RSAAlgorithm.from_jwk({"kty": "RSA", "n": entry["n"], "e": entry["e"]})
    if not _LEAST_RSA <= key.key_size <= _LARGEST_RSA:
        raise _Unusable(f"has {key.key_size} bits; RSA keys have {_LEAST_RSA} to {_LARGEST_RSA}")
    return key, RSA_ALGORITHMS


def _ec(entry: Mapping[str, Any]) -> tuple[Any, Sequence[str]]:
    key = ECAlgorithm.from_jwk({"kty": "EC", "crv": entry["crv"], "x": entry["x"], "y": entry["y"]})
    return key, (_EC[entry["crv"]],)


def _okp(entry: Mapping[str, Any]) -> tuple[Any, Sequence[str]]:
    curve = entry["crv"]
    if curve not in ("Ed25519", "Ed448"):
        raise _Unusable("is of a curve that signs nothing (crv)")
    return OKPAlgorithm.from_jwk({"kty": "OKP", "crv": curve, "x": entry["x"]}), ("EdDSA", curve)


def _oct(entry: Mapping[str, Any]) -> tuple[Any, Sequence[str]]:
    key = HMACAlgorithm.from_jwk({"kty": "oct", "k": entry["k"]})
    if len(key) < _LEAST_SECRET:
        raise _Unusable(f"is shorter than {_LEAST_SECRET} bytes, which RFC 7518 asks for at least")
    return key, SECRET_ALGORITHMS


_KINDS: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[Any, Sequence[str]]]]] = {
    "RSA": _rsa,
    "EC": _ec,
    "OKP": _okp,
    "oct": _oct,
}
