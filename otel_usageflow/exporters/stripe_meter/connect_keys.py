"""The keys of `connect`: they encrypt what is kept (Fernet) and sign links (HMAC, with keys derived from them).

Of several keys the first is used and all are tried, so that a key can be changed: put the new one first, and take the
old one away once everything was written anew. Source of the encryption: cryptography.io/en/latest/fernet.
"""

import base64
import binascii
import hmac
import json
from typing import NamedTuple, Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAKE_A_KEY = "openssl rand -base64 32 | tr +/ -_"
"""Prints an encryption key."""

_KEY_BYTES = 32


class UnusableKey(ValueError):
    """What was given is no key; the message never quotes it."""


class Tokens(NamedTuple):
    """What lets us act for an account that has installed the app."""

    access: str
    refresh: str


class KeyRing:
    """Seals, opens and signs.

    Args:
        keys: in the order in which they are tried; the first one seals and signs.
    """

    def __init__(self, keys: list[bytes]) -> None:
        self._fernets = [Fernet(key) for key in keys]
        self._fernet = MultiFernet(self._fernets)
        self._signing = [_derived(base64.urlsafe_b64decode(key)) for key in keys]

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Of keys that stand in a text, separated by spaces or lines.

        Raises:
            UnusableKey: there is none, or one is none.
        """
        keys = text.split()
        if not keys:
            raise UnusableKey(f"holds no key; make one with: {MAKE_A_KEY}")
        for number, key in enumerate(keys, 1):
            if not _is_key(key):
                which = f"the {number}. key" if len(keys) > 1 else "it"
                raise UnusableKey(
                    f"{which} is no encryption key: it must be 32 random bytes in URL-safe base64; "
                    f"make one with: {MAKE_A_KEY}"
                )
        return cls([key.encode() for key in keys])

    def seal(self, tokens: Tokens, about: str) -> bytes:
        """Encrypt tokens of the account `about`, which they are bound to."""
        return self._fernet.encrypt(json.dumps([about, *tokens]).encode())

    def open(self, sealed: bytes, about: str) -> Tokens | None:
        """The tokens; None if none of the keys opens them, or if they are another account's."""
        try:
            whose, access, refresh = json.loads(self._fernet.decrypt(sealed))
        except (InvalidToken, ValueError):
            return None
        return Tokens(access, refresh) if whose == about else None

    def is_newest(self, sealed: bytes) -> bool:
        """Whether the first key opens it."""
        try:
            self._fernets[0].decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def sign(self, message: bytes) -> bytes:
        """The signature of a message, 32 bytes."""
        return hmac.digest(self._signing[0], message, "sha256")

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether one of the keys has signed it; in a time that does not depend on the signature."""
        # No short cut: all keys are tried.
        found = [hmac.compare_digest(hmac.digest(key, message, "sha256"), signature) for key in self._signing]
        return any(found)


def _is_key(text: str) -> bool:
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(raw) == _KEY_BYTES


def _derived(key: bytes) -> bytes:
    """A key for signing that tells nothing about the one it comes from."""
    return HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"otel-usageflow connect state 1").derive(key)
