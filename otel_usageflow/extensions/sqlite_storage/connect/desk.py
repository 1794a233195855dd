"""Connected accounts for commands: short transactions of their own, while the service runs or not."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from otel_usageflow.errors import StorageError
from otel_usageflow.extensions.sqlite_storage.connect import connections
from otel_usageflow.extensions.sqlite_storage.file import open_for_commands, open_for_reading, transaction
from otel_usageflow.ledger.connections import Connection, ConnectionState, Link


class ConnectionDesk:
    """The connected accounts of one book in the ledger of a directory.

    Every method raises `StorageError` when the ledger cannot be used; then nothing was changed.
    """

    def __init__(self, directory: Path, book: str) -> None:
        self._directory = directory
        self._book = book

    def make_link(self, link: Link) -> None:
        """Write down a link, before anybody sees it."""
        with closing(open_for_commands(self._directory)) as connection, transaction(connection):
            connections.make_link(connection, link)

    def all(self) -> tuple[Mapping[str, Connection], Mapping[str, int]]:
        """Every connection, and how many meter events wait, both by account."""
        try:
            with closing(open_for_reading(self._directory)) as connection:
                connection.execute("BEGIN")  # one moment for all that is read
                return connections.connections(connection, self._book), connections.unsent(connection, self._book)
        except sqlite3.Error as error:
            raise StorageError(f"the ledger cannot be read: {error}") from error

    def remove(self, account: str, actor: str, now: float) -> bool:
        """Nothing is sent for it any more; False if that was so before."""
        with closing(open_for_commands(self._directory)) as connection, transaction(connection):
            return connections.end(
                connection, self._book, account, ConnectionState.REMOVED, float("inf"), now, "", actor
            )

    def revoked(self, account: str, actor: str, now: float) -> None:
        """Stripe knows, too."""
        with closing(open_for_commands(self._directory)) as connection, transaction(connection):
            connections.revoked(connection, self._book, account, actor, now)
