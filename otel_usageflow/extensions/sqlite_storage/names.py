"""Numbers for what repeats: accounts, meters, policies, and the series of one user.

Rows name them by number, which keeps the ledger small. The caches are only caches: they are filled from the
tables, bounded, and dropped when a transaction is rolled back, because a number that was given in it is gone.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence

from otel_usageflow.extensions.sqlite_storage.flow.lookup import Lookup
from otel_usageflow.extensions.sqlite_storage.flow.rows import execute_rows, select_rows
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
        self._series: dict[tuple[int, str, str | None, tuple[tuple[str, str], ...]], dict[str, int]] = {}
        self._series_kept = 0
        self.lookup = Lookup(book)
        """Which customers have a value."""

    def forget(self) -> None:
        """Drop the caches, after a rollback."""
        self._book_id = None
        self._accounts.clear()
        self._meters.clear()
        self._origins.clear()
        self._forget_series()
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

    def series_of(self, meter_id: int, terms: Terms, payload: tuple[tuple[str, str], ...]) -> dict[str, int]:
        """User -> number, as far as it is known, for users under a meter with further keys; see `series`."""
        key = (meter_id, terms.policy, terms.metadata_field, payload)
        known = self._series.get(key)
        if known is None:
            known = self._series[key] = {}
        return known

    def series(
        self,
        connection: sqlite3.Connection,
        meter_id: int,
        terms: Terms,
        user: str | None,
        payload: tuple[tuple[str, str], ...],
    ) -> int:
        """The number of a user under a meter with further keys; a policy that is new to it is noted."""
        number = self.series_of(meter_id, terms, payload).get(user or "")
        if number is None:
            if self._series_kept >= _MOST_SERIES:
                self._forget_series()
            values = {
                "user": user or "",
                "metadata_field": terms.metadata_field or "",
                "meter_id": meter_id,
                "payload": _json(payload),
            }
            number = _number(connection, "series", "series_id", values)
            self.series_of(meter_id, terms, payload)[user or ""] = number
            self._series_kept += 1
            connection.execute("INSERT OR IGNORE INTO series_policies VALUES (?, ?)", (number, terms.policy))
        return number

    def meet(
        self,
        connection: sqlite3.Connection,
        meter_id: int,
        terms: Terms,
        users: Sequence[str],
        payload: tuple[tuple[str, str], ...],
    ) -> None:
        """Get to know the numbers of many users at once, before `series` is asked for each."""
        if self._series_kept + len(users) > _MOST_SERIES:
            self._forget_series()
        shared = (meter_id, terms.metadata_field or "", _json(payload), terms.policy)
        rows = [(user,) for user in users]
        execute_rows(connection, _NEW_SERIES, rows, shared)
        execute_rows(connection, _NEW_POLICY, rows, shared)
        known = self.series_of(meter_id, terms, payload)
        found = select_rows(connection, _NUMBERS, rows, shared)
        known.update(found)
        self._series_kept += len(found)

    def _forget_series(self) -> None:
        for known in self._series.values():
            known.clear()  # whoever holds one of them must not go on with numbers that are gone
        self._series.clear()
        self._series_kept = 0


def _json(payload: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(payload), sort_keys=True) if payload else ""


_SERIES = "user = column1 AND meter_id = ?1 AND metadata_field = ?2 AND payload = ?3"
_NEW_SERIES = """
INSERT OR IGNORE INTO series (meter_id, metadata_field, payload, user) SELECT ?1, ?2, ?3, column1 FROM given
"""
_NEW_POLICY = f"INSERT OR IGNORE INTO series_policies SELECT series_id, ?4 FROM given CROSS JOIN series ON {_SERIES}"
_NUMBERS = f"SELECT user, series_id FROM given CROSS JOIN series ON {_SERIES}"


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
