"""Corrections for commands: asked for and listed in short transactions, also while the service runs."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from otel_usageflow.errors import StorageError
from otel_usageflow.extensions.sqlite_storage.correction import adjust, corrections
from otel_usageflow.extensions.sqlite_storage.correction.adjust import Asked, Asker
from otel_usageflow.extensions.sqlite_storage.doubt import doubts, verdicts
from otel_usageflow.extensions.sqlite_storage.doubt.reconcile import SqliteSums
from otel_usageflow.extensions.sqlite_storage.file import open_for_commands, open_for_reading, transaction
from otel_usageflow.ledger.correction import Correction
from otel_usageflow.ledger.reconcile import Pair
from otel_usageflow.model.usage import Quantity

T = TypeVar("T")


class Adjustments:
    """The corrections of the ledger in a directory. Every method raises `StorageError` if that cannot be used."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def has_event(self, identifier: str) -> bool:
        """Whether a meter event has, or had, this identifier."""
        with self._reading() as connection:
            return verdicts.event_named(connection, identifier) is not None

    def correct_event(self, identifier: str, quantity: Quantity | None, asker: Asker) -> Asked:
        """Ask for a meter event to be undone, or corrected by a quantity.

        Raises:
            UsageError: there is nothing to correct.
        """
        with self._changing() as connection:
            return adjust.correct_event(connection, identifier, quantity, asker)

    def correct_usage(
        self,
        account_id: int,
        pair: Pair,
        quantity: Quantity,
        timestamp: int,
        asker: Asker,
        corrects: str | None = None,
    ) -> Asked:
        """Ask for a quantity to be added to a customer's usage at a moment (unix seconds).

        Raises:
            UsageError: it cannot be asked for.
        """
        with self._changing() as connection:
            return adjust.correct_usage(connection, account_id, pair, quantity, timestamp, asker, corrects)

    def account_numbers(self, account: str, event_name: str) -> dict[str, int]:
        """Book -> number of the account in it, for books that know this event name."""
        with self._reading() as connection:
            return adjust.account_numbers(connection, account, event_name)

    def customers_of(self, account_id: int, event_name: str, user: str) -> list[str]:
        """The customers that a user of this event name stands for."""
        with self._reading() as connection:
            return adjust.customers_of(connection, account_id, event_name, user)

    def decide(self, identifier: str, *, counted: bool, actor: str, why: str, now: float) -> str:
        """A person says whether an event of unknown outcome was counted; its identifier afterwards.

        Raises:
            UsageError: there is no such event, or nothing about it is unknown.
        """
        with self._changing() as connection:
            return doubts.decide(connection, identifier, counted=counted, actor=actor, why=why, now=now)

    def listed(self, numbers: Sequence[int] | None = None) -> list[Correction]:
        """All corrections, or those with these numbers, oldest first."""
        with self._reading() as connection:
            return corrections.listed(connection, numbers)

    def sums(self, book: str) -> SqliteSums:
        """What the ledger expects Stripe to have counted, for one book."""

        async def look(read: Callable[[sqlite3.Connection], T]) -> T:
            with self._reading() as connection:
                return read(connection)

        return SqliteSums(look, look, book)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with closing(open_for_reading(self._directory)) as connection:
            try:
                connection.execute("BEGIN")  # one moment for all that is read
                yield connection
            except sqlite3.Error as error:
                raise StorageError(f"the ledger cannot be read: {error}") from error

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with closing(open_for_commands(self._directory)) as connection, transaction(connection):
            yield connection
