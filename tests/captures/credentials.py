"""API keys and tokens of the traffic. They open nothing: the servers are gone when the captures are written."""

import base64
import hashlib
import hmac
import json

KEY_ACME = "key-of-acme-0123456789"
KEY_GLOBEX = "key-of-globex-0123456789"
BEARER_GLOBEX = "bearer-of-globex-0123456789"
JWT_SECRET = "the-secret-of-the-captures-and-of-nothing-else"
"""Also in policies.yaml."""
_IN_2001 = 1_000_000_000
_IN_2100 = 4_102_444_800


def digest(key: str) -> str:
    """The hex SHA-256 of a key: what a customer's metadata holds in place of the key."""
    return hashlib.sha256(key.encode()).hexdigest()


def token(tenant: str, *, forged: bool = False, expired: bool = False, unsigned: bool = False) -> str:
    """An HS256 JWT with the claim `org.tenant`; see RFC 7519. Always the same text for the same arguments."""
    header = {"alg": "none" if unsigned else "HS256", "typ": "JWT"}
    claims = {"sub": f"user-of-{tenant}", "org": {"tenant": tenant}, "exp": _IN_2001 if expired else _IN_2100}
    signed = f"{_part(json.dumps(header).encode())}.{_part(json.dumps(claims).encode())}"
    secret = "somebody-else's-secret" if forged else JWT_SECRET
    signature = b"" if unsigned else hmac.digest(secret.encode(), signed.encode(), "sha256")
    return f"{signed}.{_part(signature)}"


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
