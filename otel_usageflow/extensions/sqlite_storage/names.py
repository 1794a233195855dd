"""Numbers for what repeats: accounts, meters, policies, and the series of one user.

Rows name them by number, which keeps the ledger small. The caches are only caches: they are filled from the
tables, bounded, and dropped when a transaction is rolled back, because a number that was given in it is gone.
"""

import json
import sqlite3
from collections.abc import Mapping

from otel_usageflow.extensions.sqlite_storage.flow.lookup import Lookup
from otel_usageflow.model.caller import Caller
from otel_usageflow.model.usage import Terms

_MOST_SERIES = 200_000
SCOPE = 4
"""Bytes of a scope that is not empty."""


class Names:
    """The numbers that one book uses. Belongs to the writer's thread."""

    def __init__(self, book: str) -> None:
        self._book = book
        self._book_id: int | None = None
        self._accounts: dict[str, int] = {}
        self._meters: dict[tuple[str, str], int] = {}
        self._origins: dict[tuple[str, str], int] = {}
        self._series: dict[tuple[int, str, str | None, str, tuple[tuple[str, str], ...]], int] = {}
        self.lookup = Lookup(book)
        """Which customers have a value."""

    def forget(self) -> None:
        """Drop the caches, after a rollback."""
        self._book_id = None
        self._accounts.clear()
        self._meters.clear()
        self._origins.clear()
        self._series.clear()
        self.lookup.clear()

    def book(self, connection: sqlite3.Connection) -> int:
        """The number of the book itself."""
        if self._book_id is None:
            self._book_id = _number(connection, "books", "book_id", {"book": self._book})
        return self._book_id

    # One call of each for every record, so there is nothing between the call and the dictionary.

    def account(self, connection: sqlite3.Connection, account: str) -> int:
        """The number of a connected account; empty for the key's own."""
        number = self._accounts.get(account)
        if number is None:
            values = {"book": self._book, "account": account}
            number = self._accounts[account] = _number(connection, "accounts", "account_id", values)
        return number

    def meter(self, connection: sqlite3.Connection, account: str, event_name: str) -> int:
        """The number of an event name in an account."""
        number = self._meters.get((account, event_name))
        if number is None:
            values = {"account_id": self.account(connection, account), "event_name": event_name}
            number = self._meters[account, event_name] = _number(connection, "meters", "meter_id", values)
        return number

    def scope(self, connection: sqlite3.Connection, caller: Caller | None) -> bytes:
        """What stands behind the ids of spans that came with a company's token: nothing of another's can name them.

        Empty for spans without a token, and with one of the exporter's own account: those are the operator's.
        """
        if caller is None or not caller.account:
            return b""
        return self.account(connection, caller.account).to_bytes(SCOPE, "big")

    def meters_for(self, connection: sqlite3.Connection, caller: Caller | None) -> list[tuple[int, str, str]]:
        """(number, account, event name) of what spans can be billed under: of a company's only in its account."""
        rows = connection.execute(
            "SELECT meter_id, account, event_name FROM meters JOIN accounts USING (account_id) WHERE book = ?",
            (self._book,),
        ).fetchall()
        company = caller.account if caller is not None else ""
        return [row for row in rows if not company or row[1] == company]

    def origin(self, connection: sqlite3.Connection, policy: str, source: str | None) -> int:
        """The number of a policy together with the place where it found the user."""
        key = (policy, source or "")
        number = self._origins.get(key)
        if number is None:
            values = {"policy": policy, "source": source or ""}
            number = self._origins[key] = _number(connection, "origins", "origin_id", values)
        return number

    def series(
        self,
        connection: sqlite3.Connection,
        meter_id: int,
        terms: Terms,
        user: str | None,
        payload: tuple[tuple[str, str], ...],
    ) -> int:
        """The number of a user under a meter with further keys; a policy that is new to it is noted."""
        key = (meter_id, terms.policy, terms.metadata_field, user or "", payload)
        number = self._series.get(key)
        if number is None:
            if len(self._series) >= _MOST_SERIES:
                self._series.clear()
            values = {
                "user": user or "",
                "metadata_field": terms.metadata_field or "",
                "meter_id": meter_id,
                "payload": json.dumps(dict(payload), sort_keys=True) if payload else "",
            }
            number = self._series[key] = _number(connection, "series", "series_id", values)
            connection.execute("INSERT OR IGNORE INTO series_policies VALUES (?, ?)", (number, terms.policy))
        return number


def _number(connection: sqlite3.Connection, table: str, column: str, values: Mapping[str, object]) -> int:
    """The number of a row with these values, made if there is none."""
    where = " AND ".join(f"{name} = ?" for name in values)
    found = connection.execute(f"SELECT {column} FROM {table} WHERE {where}", (*values.values(),)).fetchone()
    if found is None:
        marks = ", ".join("?" * len(values))
        found = connection.execute(
            f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks}) RETURNING {column}",
            (*values.values(),),
        ).fetchone()
    return int(found[0])
