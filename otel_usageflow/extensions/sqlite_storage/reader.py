"""Reports from the ledger: read-only, one consistent snapshot each, and never in the writer's way."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_usageflow.errors import StorageError
from otel_usageflow.extensions.sqlite_storage.damage import explained, is_damage, of_connection
from otel_usageflow.extensions.sqlite_storage.explain import explain_event, explain_trace
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.explanation import ExplainedEvent, ExplainedRequest, ExplainedUsage
from otel_usageflow.ledger.report import STANDING_OF_EVENT, Standing, UsageLine
from otel_usageflow.ledger.states import EventState

_WHO = "a.account, m.event_name, s.metadata_field, s.user"
_NAMES = (
    "JOIN series s USING (series_id) JOIN meters m USING (meter_id) JOIN accounts a ON a.account_id = m.account_id"
)
_WITHIN = "BETWEEN :since AND :until"

# Of an amount that was told in parts, the worst part decides: it must not look billed while one is refused.
_STATE = """(SELECT p.state FROM meter_events p WHERE p.event_id BETWEEN e.event_id AND e.event_id + e.parts - 1
             ORDER BY p.state = 2, p.state IN (0, 1), p.state = 4 LIMIT 1)"""

# Each part gives: who, customer, state of the event, standing, reason, requests, quantity.
_PARTS = (
    # Summed windows, and what became of their events.
    f"""SELECT {_WHO}, e.customer, {_STATE} AS now, NULL, e.reason, sum(w.requests), exact_total(w.total)
        FROM windows w JOIN meter_events e USING (event_id) {_NAMES}
        WHERE w.event_id > 0 AND w.start {_WITHIN} GROUP BY s.series_id, e.customer, now, e.reason""",
    # Windows that summed to 0, and records of 0: done without an event.
    f"""SELECT {_WHO}, NULL, NULL, '{Standing.BILLED}', NULL, sum(w.requests), 0
        FROM windows w {_NAMES} WHERE w.event_id <= 0 AND w.start {_WITHIN} GROUP BY s.series_id""",
    # Records with an event of their own: the first part of it, and what came back is in a window.
    f"""SELECT {_WHO}, e.customer, {_STATE} AS now, NULL, e.reason, count(*), exact_total(r.quantity)
        FROM meter_events e JOIN records r ON r.key = e.record_key {_NAMES}
        WHERE e.requests > 0 AND e.state != {int(EventState.RETURNED)} AND e.timestamp {_WITHIN}
        GROUP BY s.series_id, e.customer, now, e.reason""",
    f"""SELECT {_WHO}, NULL, NULL, '{Standing.COLLECTING}', NULL, sum(w.requests), exact_total(w.total)
        FROM open_windows w {_NAMES} WHERE w.start {_WITHIN} GROUP BY s.series_id""",
    f"""SELECT {_WHO}, NULL, NULL, '{Standing.QUARANTINED}', w.reason, sum(w.requests), exact_total(w.total)
        FROM held_windows w {_NAMES} WHERE w.start {_WITHIN} GROUP BY s.series_id, w.reason""",
    f"""SELECT {_WHO}, NULL, NULL, '{Standing.QUARANTINED}', q.reason, count(*), exact_total(q.quantity)
        FROM quarantine q {_NAMES}
        WHERE q.resolved_at IS NULL AND q.at_ns / 1000000000 {_WITHIN} GROUP BY s.series_id, q.reason""",
)


class _ExactTotal:
    """The SQL aggregate that sums stored amounts without a float."""

    def __init__(self) -> None:
        self._total = amount.restored(0)

    def step(self, value: int | str | None) -> None:
        """Add one; what has no quantity adds nothing."""
        if value is not None:
            self._total = amount.add(self._total, amount.restored(value))

    def finalize(self) -> int | str:
        """The sum, as it is stored."""
        return amount.stored(self._total)


class SqliteReader:
    """A `LedgerReader` on the database file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.create_aggregate("exact_total", 1, _ExactTotal)  # type: ignore[arg-type]
        self._connection = connection

    def usage(self, since: float | None, until: float | None) -> list[UsageLine]:
        """Usage whose spans ended at or after `since` and before `until`, unix seconds, sorted."""
        limits = {
            "since": -1 if since is None else int(since),
            "until": 2**62 if until is None else int(until) - 1,
        }
        lines = []
        with self._snapshot():
            for part in _PARTS:
                for row in self._connection.execute(part, limits):
                    account, event_name, field, user, customer, state, standing, reason, requests, quantity = row
                    lines.append(
                        UsageLine(
                            account,
                            event_name,
                            field or None,
                            user,
                            customer,
                            STANDING_OF_EVENT[EventState(state)] if standing is None else Standing(standing),
                            reason,
                            requests,
                            amount.restored(quantity),
                        )
                    )
        return sorted(_merged(lines), key=_order)

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
        except sqlite3.Error as error:
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


def _order(line: UsageLine) -> tuple[str, ...]:
    who = (line.account, line.event_name, line.metadata_field or "", line.user)
    return (*who, line.customer or "", line.standing, line.reason or "")


def _merged(lines: list[UsageLine]) -> list[UsageLine]:
    """Lines that differ only in where they came from, added up; further payload keys are not told apart."""
    merged: dict[tuple[str, ...], UsageLine] = {}
    for line in lines:
        if not line.requests:
            continue
        before = merged.get(_order(line))
        if before is None:
            merged[_order(line)] = line
            continue
        merged[_order(line)] = UsageLine(
            line.account,
            line.event_name,
            line.metadata_field,
            line.user,
            line.customer,
            line.standing,
            line.reason,
            before.requests + line.requests,
            amount.add(before.quantity, line.quantity),
        )
    return list(merged.values())
