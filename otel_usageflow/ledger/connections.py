"""Connected accounts: which there are, how far a link to connect one has come, and what may be done when.

Test and live mode are two books, so a test key never sees a live connection. Secrets come here encrypted, and are
opaque to the ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

LINK_MADE, LINK_USED, CONNECTED = "connect link made", "connect link used", "account connected"
ACCOUNT_REMOVED, ACCOUNT_REVOKED = "account removed", "account revoked"
DEAUTHORIZED, LOST = "account deauthorized", "account lost"
"""Actions in the audit log."""


class ConnectionState(StrEnum):
    """What became of a connection."""

    CONNECTED = "connected"
    REMOVED = "removed"
    """By us, with `connect remove`."""
    DEAUTHORIZED = "deauthorized"
    """By the account's owner, as Stripe says."""
    LOST = "lost"
    """Its refresh token is valid no more, so that nobody can act for it."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One connected account. Times are unix seconds; `sealed` holds its tokens, encrypted, or nothing."""

    account: str
    kind: str
    """`oauth` or `app`."""
    scope: str
    state: ConnectionState
    connected_at: float
    """By Stripe's clock, where its answer said so."""
    changed_at: float
    actor: str
    """Who made the link, or the last change."""
    revoked: bool = False
    """Whether Stripe knows that it is over."""
    sealed: bytes = b""
    renew_at: float = 0.0
    """When the access token in `sealed` is to be renewed, some time before its end; 0 without one."""
    renewing: bool = False
    """An exchange of the refresh token has begun, and no answer is written down."""

    @property
    def usable(self) -> bool:
        """Whether calls may be made for it."""
        return self.state is ConnectionState.CONNECTED


class Outcome(StrEnum):
    """What became of a link. Between `taken` and the others lies the one exchange of its code."""

    OPEN = "open"
    TAKEN = "taken"
    CONNECTED = "connected"
    DENIED = "denied"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """The exchange began, and nobody knows how it ended."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link that was made with `connect url`; what its state stands for."""

    nonce: bytes
    book: str
    made_at: float
    expires_at: float
    actor: str
    account: str = ""
    """The account that is expected, or empty."""
    outcome: Outcome = Outcome.OPEN
    became: str = ""
    """The account that was connected, or why none was."""


class Claim(StrEnum):
    """What came of taking a link."""

    YOURS = "yours"
    """It was open and is taken now: exactly one caller is told so, ever."""
    USED = "used"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    """No such link was made here."""
    FOREIGN = "foreign"
    """It was made for another exporter, or for the other mode."""
    REPLAYED = "replayed"
    """It is open and stays so: the code that came with it was exchanged with another link."""


class Connections(Protocol):
    """The part of a ledger that knows the connected accounts of one book. Each change is one transaction."""

    async def claim(self, nonce: bytes, outcome: Outcome, now: float, code: bytes) -> tuple[Claim, Link | None]:
        """Take an open link, as `taken` before its code is exchanged, or as `denied`. Of two callers one gets it.

        `code` is a digest of the code that is to be exchanged, or empty: none is exchanged under two links either.
        """

    async def conclude(self, nonce: bytes, outcome: Outcome, became: str, now: float) -> None:
        """Write down what became of a link that was taken."""

    async def interrupted(self, now: float) -> list[Link]:
        """Links that were taken by a process that is gone; they are of unknown outcome from now on."""

    async def connected(self, nonce: bytes, connection: Connection, now: float) -> None:
        """Write down a connection, new or renewed, and that this link led to it."""

    async def all(self) -> Mapping[str, Connection]:
        """Every connection of the book by its account, those that are over too."""

    async def renewing(self, account: str, sealed: bytes) -> bool:
        """The refresh token in `sealed` is about to be exchanged; False if that is not the one any more."""

    async def renewed(self, account: str, before: bytes, sealed: bytes, renew_at: float) -> bool:
        """Put new tokens in the place of `before`; False if other tokens, or none, stand there now."""

    async def ended(self, account: str, state: ConnectionState, at: float, now: float, why: str) -> bool:
        """Mark a connection as over, if it began before `at`; return whether it was one. Its tokens are deleted."""
