"""The part of the SQLite ledger that knows the connected accounts; `ledger.connections` has what is promised."""

from collections.abc import Mapping

from otel_usageflow.extensions.sqlite_storage.connect import connections
from otel_usageflow.extensions.sqlite_storage.doubt.doubt_ledger import Runs
from otel_usageflow.ledger.connections import Claim, Connection, ConnectionState, Link, Outcome


class SqliteConnections:
    """Connections of one book. `change` runs in the writer's thread, `look` beside it."""

    def __init__(self, change: Runs, look: Runs, book: str) -> None:
        self._change = change
        self._look = look
        self._book = book

    async def claim(self, nonce: bytes, outcome: Outcome, now: float, code: bytes) -> tuple[Claim, Link | None]:
        """Take an open link; of two callers one gets it."""
        return await self._change(lambda c: connections.claim(c, self._book, nonce, outcome, now, code))

    async def conclude(self, nonce: bytes, outcome: Outcome, became: str, now: float) -> None:
        """Write down what became of a link that was taken."""
        await self._change(lambda c: connections.conclude(c, nonce, outcome, became, now))

    async def interrupted(self, now: float) -> list[Link]:
        """Links that were taken by a process that is gone; they are of unknown outcome from now on."""
        return await self._change(lambda c: connections.interrupted(c, self._book, now))

    async def connected(self, nonce: bytes, connection: Connection, now: float) -> None:
        """Write down a connection, new or renewed, and that this link led to it."""
        await self._change(lambda c: connections.connect(c, self._book, nonce, connection, now))

    async def all(self) -> Mapping[str, Connection]:
        """Every connection of the book by its account."""
        return await self._look(lambda c: connections.connections(c, self._book))

    async def renewing(self, account: str, sealed: bytes) -> bool:
        """The refresh token in `sealed` is about to be exchanged; False if that is not the one any more."""
        return await self._change(lambda c: connections.renewing(c, self._book, account, sealed))

    async def renewed(self, account: str, before: bytes, sealed: bytes, renew_at: float) -> bool:
        """Put new tokens in the place of `before`; False if other tokens, or none, stand there now."""
        return await self._change(lambda c: connections.renewed(c, self._book, account, before, sealed, renew_at))

    async def ended(self, account: str, state: ConnectionState, at: float, now: float, why: str) -> bool:
        """Mark a connection as over, if it began before `at`; return whether it was one."""
        return await self._change(lambda c: connections.end(c, self._book, account, state, at, now, why))
