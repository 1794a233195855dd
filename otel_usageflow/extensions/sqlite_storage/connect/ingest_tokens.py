"""Ingest tokens in the database: what commands do with them, and what the service reads."""

import sqlite3
from collections.abc import Collection
from zlib import crc32

import structlog

from otel_usageflow.errors import UsageError
from otel_usageflow.extensions.sqlite_storage.doubt.doubt_ledger import Runs
from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.ledger.audit import Change
from otel_usageflow.ledger.ingest_tokens import IngestToken

CREATED, REVOKED = "token created", "token revoked"
"""Actions in the audit log."""
_HOUR = 3_600
_COLUMNS = "token_id, name, book, account, created_at, expires_at, revoked_at, used_at"
_NEXT = "(SELECT coalesce(max(changed), 0) + 1 FROM ingest_tokens)"

_log = structlog.get_logger(__name__)


class SqliteIngestTokens:
    """For the service, as `ledger.ingest_tokens.IngestTokens`: `change` writes, `look` reads beside the writer."""

    def __init__(self, change: Runs, look: Runs) -> None:
        self._change = change
        self._look = look

    async def change(self) -> int:
        """A number that grows when a token was made or revoked, by whichever process."""
        return await self._look(_changed)

    async def read(self) -> dict[bytes, IngestToken]:
        """All of them, by digest."""
        return await self._look(by_digest)

    async def note_used(self, ids: Collection[str], at: float) -> None:
        """Write down that these were used."""
        await self._change(lambda c: note_used(c, ids, at))


def create(connection: sqlite3.Connection, token: IngestToken, digest: bytes, actor: str) -> None:
    """Keep a new token, of which only the digest is known."""
    values = (token.id, digest, token.name, token.book, token.account, token.created_at, token.expires_at)
    connection.execute(
        f"INSERT INTO ingest_tokens VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL, {_NEXT}, ?)",
        (*values, _check_sum(values)),
    )
    after = {"name": token.name, "book": token.book, "account": token.account, "expires_at": token.expires_at}
    audit.record(connection, Change(actor, CREATED, f"ingest token {token.id}", after=after), token.created_at)


def revoke(connection: sqlite3.Connection, token_id: str, actor: str, why: str, now: float) -> IngestToken:
    """Let nobody in with a token any more; return it. One that is revoked already stays as it is.

    Raises:
        UsageError: there is none of this id.
    """
    row = connection.execute(f"SELECT {_COLUMNS} FROM ingest_tokens WHERE token_id = ?", (token_id,)).fetchone()
    if row is None:
        raise UsageError(f"there is no ingest token {token_id!r}; connect token list shows all")
    token = IngestToken(*row)
    if token.revoked_at is None:
        connection.execute(
            f"UPDATE ingest_tokens SET revoked_at = ?, changed = {_NEXT} WHERE token_id = ?", (now, token_id)
        )
        before, after = {"revoked": False}, {"revoked": True, "account": token.account}
        audit.record(connection, Change(actor, REVOKED, f"ingest token {token_id}", before, after, why), now)
    return token


def listed(connection: sqlite3.Connection) -> list[IngestToken]:
    """All tokens, oldest first."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM ingest_tokens ORDER BY created_at, token_id")
    return [IngestToken(*row) for row in rows]


def accounts(connection: sqlite3.Connection, book: str) -> frozenset[str]:
    """The accounts for which there ever were tokens of a book."""
    rows = connection.execute("SELECT DISTINCT account FROM ingest_tokens WHERE book = ?", (book,))
    return frozenset(account for (account,) in rows)


def by_digest(connection: sqlite3.Connection) -> dict[bytes, IngestToken]:
    """All tokens by digest. A row that was damaged, in which the account may be another one, lets nobody in."""
    found: dict[bytes, IngestToken] = {}
    rows = connection.execute(f"SELECT digest, check_sum, {_COLUMNS} FROM ingest_tokens")
    for digest, check_sum, *columns in rows.fetchall():
        token = IngestToken(*columns)
        values = (token.id, digest, token.name, token.book, token.account, token.created_at, token.expires_at)
        if _check_sum(values) == check_sum:
            found[digest] = token
        else:
            _log.error("ingest_token_damaged", token=token.id, remedy="revoke it and make another one")
    return found


def note_used(connection: sqlite3.Connection, ids: Collection[str], at: float) -> None:
    """Write down that tokens were used, to the hour: more would be a trace of who calls when."""
    hour = float(at // _HOUR * _HOUR)
    connection.executemany(
        "UPDATE ingest_tokens SET used_at = max(coalesce(used_at, 0), ?) WHERE token_id = ?",
        [(hour, token_id) for token_id in ids],
    )


def _changed(connection: sqlite3.Connection) -> int:
    (changed,) = connection.execute("SELECT coalesce(max(changed), 0) FROM ingest_tokens").fetchone()
    return int(changed)


def _check_sum(values: tuple[object, ...]) -> int:
    return crc32(repr(values).encode(errors="surrogateescape"))
