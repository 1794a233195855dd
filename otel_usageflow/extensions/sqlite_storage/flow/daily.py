"""Billed usage summed by UTC day, series and customer, so that a report of a month reads thousands of rows.

It is kept in the transaction of the step that changes it: what enters the state ACCEPTED is added, what leaves it is
subtracted, and what sums to nothing is added when it is frozen. An amount that was told in several events counts as
billed while all of them are accepted. Nothing is ever estimated: the sums equal those over the rows they are made of
(a property test compares them), and they outlive those rows.
"""

import sqlite3
from collections.abc import Iterable

from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.states import EventState

NOBODY = ""
"""In place of a customer: usage that sums to nothing has no meter event, so it has none."""

_ADD = """
INSERT INTO daily VALUES (?, ?, ?, ?, ?) ON CONFLICT (day, series_id, customer) DO UPDATE SET
  requests = requests + excluded.requests, total = exact_sum(total, excluded.total)
"""
_NOTHING_LEFT = "DELETE FROM daily WHERE day = ? AND series_id = ? AND customer = ? AND requests = 0"


def entered(connection: sqlite3.Connection, event_id: int) -> None:
    """A meter event is accepted now."""
    _count(connection, event_id, 1)


def leaves(connection: sqlite3.Connection, event_id: int) -> None:
    """A meter event that is accepted will not be in a moment."""
    _count(connection, event_id, -1)


def count_nothing(connection: sqlite3.Connection, windows: Iterable[tuple[int, int, int]], sign: int) -> None:
    """Requests that add up to nothing are done, or (`sign` -1) wait again: start, series and requests of windows."""
    _add(
        connection, ((start // DAY, series_id, NOBODY, sign * requests, 0) for start, series_id, requests in windows)
    )


def _count(connection: sqlite3.Connection, event_id: int, sign: int) -> None:
    customer, record_key, part, parts = connection.execute(
        "SELECT customer, record_key, part, parts FROM meter_events WHERE event_id = ?", (event_id,)
    ).fetchone()
    first = event_id - part
    if parts > 1:
        (accepted,) = connection.execute(
            "SELECT count(*) FROM meter_events WHERE event_id BETWEEN ? AND ? AND state = ?",
            (first, first + parts - 1, EventState.ACCEPTED),
        ).fetchone()
        if accepted < parts:
            return
    if record_key is None:
        covered = "SELECT start, series_id, requests, total FROM windows WHERE event_id = ?"
    else:
        covered = "SELECT at_ns / 1000000000, series_id, 1, quantity FROM records WHERE key = ?"
    rows = connection.execute(covered, (first if record_key is None else record_key,)).fetchall()
    _add(
        connection,
        [
            (second // DAY, series_id, customer, sign * requests, amount.stored(sign * amount.restored(total)))
            for second, series_id, requests, total in rows
        ],
    )


def _add(connection: sqlite3.Connection, rows: Iterable[tuple[int, int, str, int, int | str]]) -> None:
    rows = [row for row in rows if row[3]]
    connection.executemany(_ADD, rows)
    connection.executemany(_NOTHING_LEFT, [row[:3] for row in rows if row[3] < 0])
