"""The meters by which an account is known again: remembered in the service, read by commands."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from otel_usageflow.errors import StorageError
from otel_usageflow.extensions.sqlite_storage.file import LEDGER, open_for_reading

_KNOWN = """
SELECT k.meter FROM known_meters k JOIN accounts a USING (account_id) WHERE a.book = ? AND a.account = ?
"""


def known(connection: sqlite3.Connection, book: str, account: str) -> frozenset[str]:
    """Ids of the meters of this account that were fed."""
    return frozenset(str(meter) for (meter,) in connection.execute(_KNOWN, (book, account)))


def remember(connection: sqlite3.Connection, account_id: int, meters: Iterable[str]) -> None:
    """Know the account by these, too."""
    connection.executemany(
        "INSERT OR IGNORE INTO known_meters VALUES (?, ?)", [(account_id, meter) for meter in meters]
    )


def known_in(directory: Path, book: str, account: str) -> frozenset[str]:
    """The same from a command; empty where there is no ledger yet.

    Raises:
        StorageError: it cannot be read.
    """
    if not (directory / LEDGER).exists():
        return frozenset()
    with closing(open_for_reading(directory)) as connection:
        try:
            return known(connection, book, account)
        except sqlite3.Error as error:
            raise StorageError(f"the ledger cannot be read: {error}") from error
