"""The `state` of a link: what we say to Stripe's browser, and want to hear again, signed so that nobody can make one.

It names a nonce, of which the ledger knows whether it was used, the moment after which it is void, and the book it
was made for. What it must not be is guessed, changed, used twice, late, or another exporter's.
"""

import base64
import binascii
import json
import secrets
from dataclasses import dataclass

from otel_usageflow.exporters.stripe_meter.connect_keys import KeyRing

_MOST = 1_000
"""Characters of a state that are looked at."""
_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class State:
    """What a state says. `expires_at` is whole unix seconds; `book` is an exporter in a mode."""

    nonce: bytes
    expires_at: int
    book: str


class Forged(Exception):
    """A state that is none of ours."""


def new_nonce() -> bytes:
    """What no state had before."""
    return secrets.token_bytes(_NONCE_BYTES)


def written(state: State, keys: KeyRing) -> str:
    """The state as it stands in a link: `v1.CONTENT.SIGNATURE`, letters, digits, `-`, `_` and `.` only."""
    content = [state.nonce.hex(), state.expires_at, state.book]
    text = f"v1.{_encoded(json.dumps(content, separators=(',', ':')).encode())}"
    return f"{text}.{_encoded(keys.sign(text.encode()))}"


def read(text: str, keys: KeyRing) -> State:
    """What a state says, whether it is still valid or not.

    Raises:
        Forged: we have not signed this, to the letter.
    """
    signed, _, signature = text.rpartition(".")
    version, _, content = signed.partition(".")
    if len(text) > _MOST or version != "v1":
        raise Forged
    if not keys.signed(signed.encode(errors="replace"), _decoded(signature)):
        raise Forged
    nonce, expires_at, book = json.loads(_decoded(content))
    return State(bytes.fromhex(nonce), expires_at, book)


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    """The bytes of a text in the one form in which we write them.

    Raises:
        Forged: it is not in that form; base64 itself would read several texts as the same bytes.
    """
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise Forged from None
    if _encoded(raw) != text:
        raise Forged
    return raw
