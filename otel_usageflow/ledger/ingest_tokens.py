"""Ingest tokens: secrets that let a client in, and decide in which Stripe account its spans are billed.

A token is 256 random bits, shown once. What is kept is its SHA-256: with so many bits nobody finds a token by its
digest, so that no slow hash is needed, and looking a digest up tells nothing about the tokens that there are.
"""

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

PREFIX: Final = "ufi_"
"""Every token begins with it, so that people and scanners for secrets know one when they see it."""
_BYTES: Final = 32


class TokenState(StrEnum):
    """Whether a token lets anybody in."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class IngestToken:
    """What is known of a token; never the token itself. Times are unix seconds."""

    id: str
    """Names it in commands, the log and the audit log."""
    name: str
    """What it is for, in somebody's words; may be empty."""
    book: str
    """The book of the exporter that bills, which is its id and its mode: `stripe_meter test`."""
    account: str
    """The connected account; empty for the exporter's own."""
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = None
    """When it last let somebody in, to the hour."""

    @property
    def exporter(self) -> str:
        """The id of the exporter."""
        return self.book.rpartition(" ")[0]

    @property
    def mode(self) -> str:
        """`test` or `live`."""
        return self.book.rpartition(" ")[2]

    def state(self, now: float) -> TokenState:
        """Whether it lets anybody in at this moment."""
        if self.revoked_at is not None:
            return TokenState.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return TokenState.EXPIRED
        return TokenState.VALID


def new_secret() -> str:
    """A token that nobody has."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def new_id() -> str:
    """A name for a token: short, and not a part of it."""
    return f"it_{secrets.token_hex(6)}"


def digest(secret: bytes) -> bytes:
    """What is kept of a token, 32 bytes."""
    return hashlib.sha256(secret).digest()


class IngestTokens(Protocol):
    """The tokens of one ledger, for the service."""

    async def change(self) -> int:
        """A number that grows when a token was made or revoked, by whichever process."""

    async def read(self) -> Mapping[bytes, IngestToken]:
        """All of them, by digest."""

    async def note_used(self, ids: Collection[str], at: float) -> None:
        """Write down that these were used. `at` is unix seconds."""


@runtime_checkable
class TokenAccounts(Protocol):
    """What an extension is that knows for which accounts there are tokens."""

    def follow_accounts(self, book: str, tell: Callable[[str], None]) -> Callable[[], None]:
        """Call `tell` for each account for which a token of this book is valid: now, and when more come.

        Returns:
            What ends that.
        """
