"""The key of a JWT verification, with the algorithms that it allows and no others (RFC 8725 section 3.1)."""

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
PUBLIC_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "ES256K", "EdDSA"),
)
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}


@dataclass(frozen=True, slots=True, repr=False)
class VerificationKey:
    """A key, prepared for each algorithm that may be used with it."""

    prepared: dict[str, tuple[jwt.algorithms.Algorithm, Any]]

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
        return VerificationKey({name: _prepared(name, key) for name in names})
    except jwt.InvalidKeyError:
        raise ValueError("the secret is a public key or certificate; name its file in public_key_file") from None


def public_key_file(path: str, algorithms: Sequence[str] | None = None) -> VerificationKey:
    """A public key, or the one of a certificate, in PEM.

    Raises:
        ValueError: the file cannot be read, holds no public key, or does not allow one of the algorithms.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    key, allowed = _public_key(data, path)
    return VerificationKey(
        {name: _prepared(name, key) for name in _narrowed(allowed, algorithms, f"the key in {path}")}
    )


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
        return key, ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key, (_CURVES[key.curve.name],)
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return key, ("EdDSA",)
    raise ValueError(f"{path} holds a key of a kind that signs no JWT; use RSA, EC (P-256, P-384, P-521) or Ed25519")


def _narrowed(allowed: Sequence[str], wanted: Sequence[str] | None, what: str) -> Sequence[str]:
    if wanted is None:
        return allowed
    for name in wanted:
        if name not in allowed:
            raise ValueError(f"{what} does not allow the algorithm {name}; it allows {', '.join(allowed)}")
    return wanted


def _prepared(name: str, key: Any) -> tuple[jwt.algorithms.Algorithm, Any]:
    algorithm = jwt.get_algorithm_by_name(name)
    return algorithm, algorithm.prepare_key(key)
