"""JSON Web Key Sets: which keys are taken, for which algorithms, and why others are left out."""

import json
from typing import Any

import jwt
import pytest
from tokens import ED448, ED25519, K256, OTHER_RSA, P256, P384, P521, RSA, SECRET, SMALL_RSA, jwk, key_set, sign

from otel_usageflow.policy.jwt_jwks import MAX_KEYS, read_key_set
from otel_usageflow.policy.jwt_key_set import MAX_WITHDRAWN, NO_KEYS
from otel_usageflow.policy.jwt_keys import MAX_BYTES, VerificationKey
from otel_usageflow.policy.jwt_token import read_token

RS = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def read(*keys: Any, **how: Any) -> tuple[VerificationKey, ...]:
    return read_key_set(key_set(*keys), "keys.json", **how).keys


def private(key: Any) -> dict[str, Any]:
    return dict(jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True), key_ops=["sign", "verify"])


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (jwk(RSA), RS),
        (jwk(RSA, alg="PS256"), {"PS256"}),
        (jwk(P256), {"ES256"}),
        (jwk(P384), {"ES384"}),
        (jwk(P521), {"ES512"}),
        (jwk(K256), {"ES256K"}),
        (jwk(ED25519), {"EdDSA", "Ed25519"}),
        (jwk(ED25519, alg="EdDSA"), {"EdDSA", "Ed25519"}),
        (jwk(ED448), {"EdDSA", "Ed448"}),
        (jwk(SECRET), {"HS256", "HS384", "HS512"}),
        (jwk(SECRET, alg="HS512"), {"HS512"}),
        (jwk(RSA, use="sig", key_ops=["verify"]), RS),
    ],
)
def test_a_key_allows_the_algorithms_of_its_kind(key: Any, algorithms: set[str]) -> None:
    """Its kind, its curve and its own `alg` say which; no key goes with algorithms of two kinds."""
    (one,) = read(key)
    assert set(one.prepared) == algorithms


@pytest.mark.parametrize(
    ("private_key", "algorithm"),
    [
        *((RSA, name) for name in sorted(RS)),
        *((P256, "ES256"), (P384, "ES384"), (P521, "ES512"), (K256, "ES256K")),
        *((ED25519, "EdDSA"), (ED25519, "Ed25519"), (ED448, "Ed448")),
        *((SECRET, name) for name in ("HS256", "HS384", "HS512")),
    ],
    ids=str,
)
def test_every_algorithm_verifies(private_key: Any, algorithm: str) -> None:
    """A key of the set verifies what its private half has signed, and nothing that was changed after."""
    (key,) = read(jwk(private_key))
    token = read_token(sign(private_key, {"sub": "acme"}, algorithm))
    assert key.verifies(algorithm, token.signed, token.signature)
    assert not key.verifies(algorithm, token.signed + b"x", token.signature)
    assert not key.verifies(algorithm, token.signed, token.signature[:-1])
    assert not key.verifies(algorithm, token.signed, b"")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("text", "is no object"),
        (jwk(RSA, kid="a") | {"kid": 1}, "has a kid that is no text"),
        (jwk(RSA, use="enc"), "is not for signatures (use)"),
        (jwk(RSA, key_ops=["encrypt"]), "is not for verifying (key_ops)"),
        (jwk(RSA, key_ops="verify"), "is not for verifying (key_ops)"),
        (private(RSA), "is a private key"),
        (jwk(RSA, alg="HS256"), "does not go with it (alg)"),
        (jwk(RSA, alg="RSA-OAEP"), "does not go with it (alg)"),
        (jwk(RSA, alg=["RS256"]), "does not go with it (alg)"),
        (jwk(P256, alg="ES384"), "does not go with it (alg)"),
        (jwk(SECRET, alg="RS256"), "does not go with it (alg)"),
        (jwk(SMALL_RSA), "has 1024 bits"),
        (jwk(b"short"), "is shorter than 32 bytes"),
        ({"kty": "oct", "k": ""}, "is damaged"),
        ({"kty": "AKP", "alg": "ML-DSA-44"}, "is of a kind that signs no JWT"),
        ({"kty": ["RSA"]}, "is of a kind that signs no JWT"),
        ({"kty": "OKP", "crv": "X25519", "x": "AAAA"}, "is of a curve that signs nothing"),
        ({"kty": "EC", "crv": "P-256"}, "is damaged"),
        (jwk(P256) | {"x": jwk(P256)["y"]}, "is damaged"),
        (jwk(P256) | {"crv": "P-192"}, "is damaged"),
        (jwk(RSA) | {"n": "!"}, "is damaged"),
        (jwk(RSA) | {"n": 5}, "is damaged"),
        (jwk(RSA) | {"e": "AA"}, "is damaged"),
        (jwk(ED25519) | {"x": "AAAA"}, "is damaged"),
    ],
)
def test_a_key_that_cannot_be_used_is_left_out(key: Any, why: str) -> None:
    """The others of the set stay, and the reason is told without the key; alone, it is no key set."""
    found = read_key_set(key_set(key, jwk(OTHER_RSA, "good")), "keys.json")
    assert [one.kid for one in found.keys] == ["good"]
    (reason,) = found.ignored
    assert reason.startswith("key 0 ")
    assert why in reason
    for value in key.values() if isinstance(key, dict) else ():
        assert not (isinstance(value, str) and len(value) > 20 and value in reason)
    with pytest.raises(ValueError, match=r"^keys.json has no key that can be used: key 0"):
        read(key)


def test_a_secret_that_others_can_read_is_none() -> None:
    """An address hands out public keys only; in a file of one's own a secret may stand."""
    found = read_key_set(key_set(jwk(SECRET), jwk(RSA)), "https://x", public=True)
    assert len(found.keys) == 1
    assert "is a shared secret" in found.ignored[0]
    assert len(read(jwk(SECRET), jwk(RSA))) == 2


def test_the_configuration_may_allow_less() -> None:
    """`algorithms` takes away; a key that is left with none is left out."""
    (key,) = read(jwk(RSA), jwk(P256), algorithms=["RS256", "HS256"])
    assert set(key.prepared) == {"RS256"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no JSON"),
        (b"<html>", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[]", "is no key set"),
        (b"{}", "is no key set"),
        (b'{"keys": {}}', "is no key set"),
        (json.dumps(jwk(RSA)).encode(), "is a single key"),
        (b'{"keys": []}', "has no key that can be used"),
        (key_set(*[jwk(P256)] * (MAX_KEYS + 1)), "has 101 keys; at most 100 are taken"),
        (b" " * (MAX_BYTES + 1), "is larger than"),
    ],
)
def test_what_is_no_key_set_is_explained(data: bytes, says: str) -> None:
    """Anything that a file or an address may hold is read or explained, with its name."""
    with pytest.raises(ValueError, match=f"^keys.json {says}"):
        read_key_set(data, "keys.json")


def test_keys_are_found_by_name() -> None:
    """By `kid`, several of one name included; those without a name for every name; all for a token without one."""
    one, same, other, nameless = jwk(RSA, "a"), jwk(P256, "a"), jwk(P384, "b"), jwk(ED25519)
    keys = NO_KEYS.followed_by(read(one, same, other, nameless), 1)
    assert [found.key.kid for found in keys.for_token("a")] == ["a", "a"]
    assert [found.key.kid for found in keys.for_token("x")] == [None]
    assert len(keys.for_token(None)) == 4
    assert keys.has("a")
    assert not keys.has("x")
    assert not keys.has(None)
    assert NO_KEYS.for_token("a") == []


def test_what_is_gone_counts_until_then() -> None:
    """A key that is missing from a newer set was withdrawn; the same set again is no change; it may come back."""
    first = NO_KEYS.followed_by(read(jwk(RSA, "a"), jwk(P256, "b")), 10)
    assert first.followed_by(read(jwk(P256, "b"), jwk(RSA, "a")), 20) is first
    second = first.followed_by(read(jwk(P256, "b")), 20)
    assert [(one.key.kid, one.until_ns) for one in second.trusted] == [("b", None), ("a", 20)]
    third = second.followed_by(read(jwk(ED25519, "c")), 30)
    assert [(one.key.kid, one.until_ns) for one in third.trusted] == [("c", None), ("b", 30), ("a", 20)]
    assert third.current == 1
    back = third.followed_by(read(jwk(RSA, "a")), 40)
    assert [(one.key.kid, one.until_ns) for one in back.trusted] == [("a", None), ("c", 40), ("b", 30)]


def test_a_place_that_changes_all_the_time_fills_no_memory() -> None:
    """Only so many withdrawn keys are kept, the latest ones."""
    keys = NO_KEYS
    for number in range(MAX_WITHDRAWN + 20):
        keys = keys.followed_by(read(jwk(P256, f"k{number}")), number)
    assert len(keys.trusted) == MAX_WITHDRAWN + 1
    assert keys.trusted[1].key.kid == f"k{MAX_WITHDRAWN + 18}"
