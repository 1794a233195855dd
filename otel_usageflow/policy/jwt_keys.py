"""The key of a JWT verification, with the algorithms that it allows and no others (RFC 8725 section 3.1)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

SECRET_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
EDWARDS_ALGORITHMS: Final = ("EdDSA", "Ed25519", "Ed448")
"""`EdDSA` is the older name of both others (RFC 9864)."""
PUBLIC_ALGORITHMS: Final = (*RSA_ALGORITHMS, *("ES256", "ES384", "ES512", "ES256K"), *EDWARDS_ALGORITHMS)
ALGORITHMS: Final = (*SECRET_ALGORITHMS, *PUBLIC_ALGORITHMS)
MAX_BYTES: Final = 262_144
"""Of a key file, or of what an endpoint answers; no set of keys is as large."""
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}


@dataclass(frozen=True, slots=True, repr=False)
class VerificationKey:
    """A key, prepared for each algorithm that may be used with it."""

    prepared: dict[str, tuple[jwt.algorithms.Algorithm, Any]]
    kid: str | None = None
    """Its name, by which tokens choose it; a key without one is tried for every token."""
    mark: bytes = b""
    """A digest of all that it is; the same key read again has the same."""

    def allows(self, algorithm: str) -> bool:
        """Whether it may be used with this algorithm."""
        return algorithm in self.prepared

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is by this key, under an algorithm that it allows."""
        known = self.prepared.get(algorithm)
        return known is not None and bool(known[0].verify(signed, known[1], signature))


def secret_key(secret: str, algorithms: Sequence[str] | None = None) -> VerificationKey:
    """A shared secret.

    Raises:
        ValueError: it is no secret, or does not allow one of the algorithms.
    """
    key = secret.strip().encode()
    names = _narrowed(SECRET_ALGORITHMS, algorithms, "a secret")
    try:
        return VerificationKey({name: prepared(name, key) for name in names})
    except jwt.InvalidKeyError:
        raise ValueError("the secret is a public key or certificate; name its file in public_key_file") from None


def public_key_file(path: str, algorithms: Sequence[str] | None = None) -> VerificationKey:
    """A public key, or the one of a certificate, in PEM.

    Raises:
        ValueError: the file cannot be read, holds no public key, or does not allow one of the algorithms.
    """
    return public_key(key_file(path), path, algorithms)


def key_file(path: str) -> bytes:
    """What a key file holds.

    Raises:
        ValueError: it cannot be read, is no file, or is far too large.
    """
    try:
        if not Path(path).is_file() and Path(path).exists():
            raise ValueError(f"{path} is no file")
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES} bytes, which no file of keys is")
    return data


def public_key(data: bytes, path: str, algorithms: Sequence[str] | None = None) -> VerificationKey:
    """The public key that the contents of a PEM file are; see `public_key_file`."""
    key, allowed = _public_key(data, path)
    names = _narrowed(allowed, algorithms, f"the key in {path}")
    return VerificationKey({name: prepared(name, key) for name in names}, mark=hashlib.sha256(data).digest())


def _public_key(data: bytes, path: str) -> tuple[Any, tuple[str, ...]]:
    if b"PRIVATE KEY-----" in data:
        raise ValueError(f"{path} holds a private key; give only the public one (openssl pkey -pubout)")
    try:
        if b"-----BEGIN CERTIFICATE-----" in data:
            key: Any = load_pem_x509_certificate(data).public_key()
        else:
            key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    if isinstance(key, rsa.RSAPublicKey):
        return key, RSA_ALGORITHMS
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key, (_CURVES[key.curve.name],)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key, ("EdDSA", "Ed25519")
    if isinstance(key, ed448.Ed448PublicKey):
        return key, ("EdDSA", "Ed448")
    raise ValueError(f"{path} holds a key of a kind that signs no JWT; use RSA, EC (P-256, P-384, P-521) or Ed25519")


def _narrowed(allowed: Sequence[str], wanted: Sequence[str] | None, what: str) -> Sequence[str]:
    if wanted is None:
        return allowed
    for name in wanted:
        if name not in allowed:
            raise ValueError(f"{what} does not allow the algorithm {name}; it allows {', '.join(allowed)}")
    return wanted


def prepared(name: str, key: Any) -> tuple[jwt.algorithms.Algorithm, Any]:
    """A key made ready for one algorithm.

    Raises:
        jwt.InvalidKeyError: the key is of another kind.
    """
    algorithm = jwt.get_algorithm_by_name("EdDSA" if name in EDWARDS_ALGORITHMS else name)
    return algorithm, algorithm.prepare_key(key)
