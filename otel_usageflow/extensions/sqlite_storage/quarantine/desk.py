"""Quarantine for commands: what is in it, and releases and discards in short steps, also while the service runs."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from otel_usageflow.errors import StorageError
from otel_usageflow.extensions.sqlite_storage.file import open_for_commands, open_for_reading, transaction
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.quarantine import entries as quarantine_entries
from otel_usageflow.extensions.sqlite_storage.quarantine import groups as quarantine_groups
from otel_usageflow.extensions.sqlite_storage.quarantine import release
from otel_usageflow.extensions.sqlite_storage.quarantine import singles as quarantine_singles
from otel_usageflow.extensions.sqlite_storage.quarantine.decisions import Who
from otel_usageflow.ledger.quarantine import Decided, Entry, Filters, Group, Single


class Quarantine:
    """The quarantine of the ledger in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def groups(self, filters: Filters) -> list[Group]:
        """What is in it, in groups.

        Raises:
            StorageError: the ledger cannot be read.
        """
        with self._reading() as connection:
            connection.execute("BEGIN")  # one moment for all that is read
            return quarantine_groups.groups(connection, filters)

    def singles(self, filters: Filters, limit: int) -> list[Single]:
        """Single requests, at most `limit`.

        Raises:
            StorageError: the ledger cannot be read.
        """
        with self._reading() as connection:
            connection.execute("BEGIN")  # one moment for all that is read
            return quarantine_singles.singles(connection, filters, limit)

    def entries(self, filters: Filters) -> Iterator[list[Entry]]:
        """Everything that fits, page by page.

        Raises:
            StorageError: the ledger cannot be read.
        """
        with self._reading() as connection:
            yield from quarantine_entries.pages(connection, filters)

    def release(self, entries: list[Entry], decided: Decided, who: Who) -> list[Entry]:
        """Release what can be released, as one step; return that.

        Raises:
            StorageError: the ledger cannot be written, and nothing was.
        """
        names: dict[str, Names] = {}
        with closing(open_for_commands(self._directory)) as connection, transaction(connection):
            return release.release(
                connection, lambda book: names.setdefault(book, Names(book)), entries, decided, who, time.time()
            )

    def discard(self, entries: list[Entry], who: Who) -> list[Entry]:
        """Decide for good that entries are not billed, as one step; return those that it was done to.

        Raises:
            StorageError: the ledger cannot be written, and nothing was.
        """
        with closing(open_for_commands(self._directory)) as connection, transaction(connection):
            return release.discard(connection, entries, who, time.time())

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(open_for_reading(self._directory)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise StorageError(f"the ledger cannot be read: {error}") from error
