"""The audit log in the database: appended in the same transaction as the change that it tells of."""

import sqlite3
from collections.abc import Iterator

from otel_usageflow.ledger.audit import CREATED, MIGRATED, Change, Entry, following

_COLUMNS = "entry, at, actor, action, subject, before, after, why, hash"
_LEDGER_ID = """
SELECT json_extract(after, '$.ledger_id') AS name FROM audit WHERE action IN (?, ?) AND json_valid(after)
AND typeof(name) = 'text' ORDER BY entry LIMIT 1
"""


def record(connection: sqlite3.Connection, change: Change, at: float) -> Entry:
    """Append an entry. `at` is unix seconds."""
    entry = following(last(connection), change, at)
    connection.execute(
        f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.entry,
            entry.at,
            entry.actor,
            entry.action,
            entry.subject,
            entry.before,
            entry.after,
            entry.why,
            entry.hash,
        ),
    )
    return entry


def last(connection: sqlite3.Connection) -> Entry | None:
    """The newest entry."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY entry DESC LIMIT 1").fetchone()
    return None if row is None else Entry(*row)


def entries(connection: sqlite3.Connection) -> Iterator[Entry]:
    """All entries, oldest first."""
    for row in connection.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY entry"):
        yield Entry(*row)


def ledger_id(connection: sqlite3.Connection) -> str | None:
    """The id that the ledger was made with; None if no entry tells it."""
    row = connection.execute(_LEDGER_ID, (CREATED, MIGRATED)).fetchone()
    return None if row is None else str(row[0])
