"""Which customers have a user's value: asked of the directory in batches, and remembered for users who are active.

What is remembered is only a cache: it is bounded, forgotten value by value when the directory changes, and dropped
when a transaction is rolled back. Whatever changes the directory and whatever asks it run in the writer's thread.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable

_MOST = 120_000
"""Users that are remembered, at some 250 bytes each."""
_AT_ONCE = 1_000

# CROSS JOIN: for each value one search of the primary key, whatever SQLite believes about the tables.
_FIND = """
SELECT c.value, c.customer FROM json_each(?) j CROSS JOIN customers c
ON c.account_id = ? AND c.field = ? AND c.value = j.value
"""

Asked = tuple[str, str, str]
"""Account, metadata field, user."""


class Lookup:
    """Answers for one book. Belongs to the writer's thread."""

    def __init__(self, book: str) -> None:
        self._book = book
        self._accounts: dict[str, int] = {}
        self._known: dict[tuple[int, str], dict[str, str | tuple[str, ...]]] = {}
        """(account, field) -> user -> the customer, or none or several."""
        self._size = 0

    def customers(self, connection: sqlite3.Connection, asked: Iterable[Asked]) -> dict[Asked, tuple[str, ...]]:
        """The customers of each: two of them say as much as more would."""
        found: dict[Asked, tuple[str, ...]] = {}
        by_field: dict[tuple[str, str], list[str]] = defaultdict(list)
        for account, field, user in asked:
            by_field[account, field].append(user)
        for (account, field), users in by_field.items():
            number = self._account(connection, account)
            if number is None:
                found.update(((account, field, user), ()) for user in users)
                continue
            known = self._known.setdefault((number, field), {})
            missed = []
            for user in users:
                answer = known.get(user)
                if answer is None:
                    missed.append(user)
                else:
                    found[account, field, user] = (answer,) if isinstance(answer, str) else answer
            for first in range(0, len(missed), _AT_ONCE):
                some = missed[first : first + _AT_ONCE]
                read = _read(connection, number, field, some)
                for user in some:
                    found[account, field, user] = customers = read.get(user, ())
                    self._remember(number, field, user, customers)
        return found

    def forget(self, account_id: int, field: str, value: str) -> None:
        """The directory says something else about this value now."""
        if self._known.get((account_id, field), {}).pop(value, None) is not None:
            self._size -= 1

    def clear(self) -> None:
        """Forget everything, after a rollback."""
        self._accounts.clear()
        self._known.clear()
        self._size = 0

    def _remember(self, account_id: int, field: str, user: str, customers: tuple[str, ...]) -> None:
        if self._size >= _MOST:
            self._known.clear()
            self._size = 0
        self._known.setdefault((account_id, field), {})[user] = customers[0] if len(customers) == 1 else customers
        self._size += 1

    def _account(self, connection: sqlite3.Connection, account: str) -> int | None:
        number = self._accounts.get(account)
        if number is None:
            row = connection.execute(
                "SELECT account_id FROM accounts WHERE book = ? AND account = ?", (self._book, account)
            ).fetchone()
            if row is None:
                return None
            number = self._accounts[account] = int(row[0])
        return number


def _read(
    connection: sqlite3.Connection, account_id: int, field: str, users: list[str]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    asked = json.dumps([user for user in users if "\0" not in user])  # SQLite's JSON would end the text there
    for value, customer in connection.execute(_FIND, (asked, account_id, field)):
        before = found.get(value)
        found[value] = (customer,) if before is None else (before[0], customer)
    return found
