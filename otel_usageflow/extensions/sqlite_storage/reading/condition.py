"""How a ledger fares, for `doctor`: what waits, what is in doubt, its directory, and what was billed lately."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from otel_usageflow.errors import StorageError
from otel_usageflow.extensions.sqlite_storage.damage import explained, is_damage, of_connection
from otel_usageflow.extensions.sqlite_storage.doubt import doubts, reconcile, reports
from otel_usageflow.extensions.sqlite_storage.file import LEDGER, open_for_reading
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.reconcile import ComparedState

_FIELD = "SELECT min(field) FROM customers WHERE account_id = ? AND field > ?"
# One walk along the primary key: counting distinct values otherwise keeps all of them in memory.
_COUNTS = """
SELECT sum(customers), sum(customers > 1) FROM (
  SELECT count(*) AS customers FROM customers WHERE account_id = ? AND field = ? GROUP BY value
)
"""
_TWICE = """
SELECT value FROM customers WHERE account_id = ? AND field = ? GROUP BY value HAVING count(*) > 1 LIMIT ?
"""
_ACCOUNTS = "SELECT account_id, account FROM accounts WHERE book = ? ORDER BY account"
_LISTED = "SELECT 1 FROM directories WHERE account_id = ? AND field = ?"
_LISTING = "SELECT listed, customers FROM listings WHERE account_id = ? AND running"
_BILLED = """
SELECT DISTINCT policy FROM series_policies WHERE series_id IN (SELECT series_id FROM daily WHERE day >= ?
  UNION SELECT series_id FROM open_windows WHERE start >= ? UNION SELECT series_id FROM held_windows WHERE start >= ?)
"""
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Directory:
    """The customers that one metadata field leads to."""

    account: str
    field: str
    customers: int
    listed: bool
    """Whether all customers were read."""
    shared: int
    """Values that several customers have."""
    examples: Sequence[str]
    """Some of them."""
    listing: tuple[int, int] | None = None
    """Customers shown by the listing that is going on, and by the last complete one; 0 for unknown."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One book of a ledger at one moment. Times are unix seconds."""

    size: int
    """Bytes of the file."""
    oldest_unsent: float | None
    unknown: int
    """Meter events of which nobody knows whether they were counted."""
    open_reports: int
    compared: ComparedState
    directories: Sequence[Directory]
    billed: frozenset[str]
    """Policies that something was billed under since `since`."""


def condition(directory: Path, book: str, since: float) -> Condition:
    """How the ledger in a directory fares.

    Raises:
        StorageError: there is none, or it cannot be read.
    """
    with closing(open_for_reading(directory)) as connection:
        try:
            connection.execute("BEGIN")
            start = int(since)
            return Condition(
                size=(directory / LEDGER).stat().st_size,
                oldest_unsent=reconcile.oldest_unsent(connection, book),
                unknown=doubts.unknown_count(connection, book),
                open_reports=reports.open_count(connection, book),
                compared=reconcile.compared(connection, book),
                directories=_directories(connection, book),
                billed=frozenset(
                    str(policy) for (policy,) in connection.execute(_BILLED, (start // DAY, start, start))
                ),
            )
        except sqlite3.Error as error:
            if is_damage(error):
                raise explained(error, of_connection(connection)) from error
            raise StorageError(f"the ledger cannot be read: {error}") from error


def _directories(connection: sqlite3.Connection, book: str) -> list[Directory]:
    found = []
    for number, account in connection.execute(_ACCOUNTS, (book,)).fetchall():
        listing = connection.execute(_LISTING, (number,)).fetchone()
        field = ""
        while (field := connection.execute(_FIELD, (number, field)).fetchone()[0]) is not None:
            customers, shared = connection.execute(_COUNTS, (number, field)).fetchone()
            listed = connection.execute(_LISTED, (number, field)).fetchone() is not None
            twice = connection.execute(_TWICE, (number, field, _EXAMPLES)).fetchall() if shared else []
            examples = [str(value) for (value,) in twice]
            found.append(Directory(account, field, customers, listed, shared, examples, listing))
    return found
