"""Reports from the ledger: read-only, one consistent snapshot each, and never in the writer's way."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_usageflow.errors import StorageError
from otel_usageflow.extensions.sqlite_storage.damage import explained, is_damage, of_connection
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.extensions.sqlite_storage.reading import trace_told, usage_report
from otel_usageflow.extensions.sqlite_storage.reading.explain import explain_event, explain_trace
from otel_usageflow.ledger.explanation import ExplainedEvent, ExplainedRequest, ExplainedUsage
from otel_usageflow.ledger.report import UsageLine


class SqliteReader:
    """A `LedgerReader` on the database file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def answerable(self, since: float | None, until: float | None) -> tuple[float | None, float | None]:
        """The time that `usage` can tell for the one asked for: whole days where single requests are pruned."""
        with self._snapshot():
            time = usage_report.answerable(self._connection, since, until)
        return None if since is None else time.since, None if until is None else time.until

    def usage(self, since: float | None, until: float | None, *, by_day: bool = False) -> list[UsageLine]:
        """Usage whose spans ended at or after `since` and before `until`, unix seconds, sorted."""
        with self._snapshot():
            time = usage_report.answerable(self._connection, since, until)
            return usage_report.lines(self._connection, time, by_day=by_day)

    def pruned_to(self) -> int:
        """Settled usage of before this moment, unix seconds, is pruned; 0 if none was."""
        with self._snapshot():
            return int(self._connection.execute("SELECT pruned_to FROM ledger").fetchone()[0])

    def waiting_requests(self) -> int:
        """How many requests wait for spans of their trace, and are in no usage yet."""
        with self._snapshot():
            return trace_told.how_many_wait(self._connection)

    def explain_trace(self, trace_id: bytes) -> list[ExplainedUsage]:
        """Everything that the ledger knows of a trace, in the order of time."""
        with self._snapshot():
            return explain_trace(self._connection, trace_id)

    def explain_event(self, identifier: str) -> tuple[ExplainedEvent, list[ExplainedRequest]] | None:
        """A meter event and the requests that it is made of; None if there is none."""
        with self._snapshot():
            return explain_event(self._connection, identifier)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """One state of the ledger for everything that is read inside."""
        try:
            self._connection.execute("BEGIN")
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if is_damage(error):
                raise explained(error, of_connection(self._connection)) from error
            raise StorageError(f"the ledger cannot be read: {error}") from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


@contextmanager
def open_reader(directory: Path) -> Iterator[SqliteReader]:
    """A reader for the ledger in `directory`.

    Raises:
        StorageError: there is none, or it cannot be read.
    """
    connection = open_for_reading(directory)
    try:
        yield SqliteReader(connection)
    finally:
        connection.close()
