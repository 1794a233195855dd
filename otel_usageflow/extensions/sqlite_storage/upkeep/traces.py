"""Letting go of traces: those of which no request ever came, and those whose usage is pruned.

A trace without a request that is billed by it is given up a day after the first of it came: what would come then is
a request that lasted for more than a day. All others are kept for as long as any of their charges is.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable

from otel_usageflow.ledger.charge import DAY

GIVE_UP = DAY
"""Seconds for which spans are kept without a request."""
AT_ONCE = 200
"""Traces that are looked at, or removed, in one step."""

_TABLES = ("traces", "trace_requests", "trace_spans", "trace_parts")
_GONE = """
SELECT trace_no FROM traces t WHERE trace_no > ? AND trace_no <= ? AND requested = 1 AND at_s < ?
AND NOT EXISTS (SELECT 1 FROM trace_requests r WHERE r.trace_no = t.trace_no AND (r.due_ns IS NOT NULL
  OR EXISTS (SELECT 1 FROM records WHERE key = r.key) OR EXISTS (SELECT 1 FROM quarantine WHERE key = r.key)))
AND NOT EXISTS (SELECT 1 FROM trace_parts p WHERE p.trace_no = t.trace_no AND p.key != x''
  AND (EXISTS (SELECT 1 FROM records WHERE key = p.key) OR EXISTS (SELECT 1 FROM quarantine WHERE key = p.key)))
"""


def give_up(connection: sqlite3.Connection, now: float, given_up: Counter[str]) -> int:
    """Remove some traces that nobody asked for; return how many went.

    Args:
        connection: in a transaction.
        now: unix seconds.
        given_up: counts, for each book, their spans that held an amount.
    """
    rows = connection.execute(
        "SELECT trace_no, book FROM traces JOIN books USING (book_id) WHERE requested = 0 AND at_s < ? LIMIT ?",
        (int(now) - GIVE_UP, AT_ONCE),
    ).fetchall()
    for number, book in rows:
        (spans,) = connection.execute(
            "SELECT count(*) FROM trace_spans WHERE trace_no = ? AND amounts != ''", (number,)
        ).fetchone()
        given_up[book] += spans
    _delete(connection, [number for number, _ in rows])
    return len(rows)


def gone(connection: sqlite3.Connection, after: int, before: int) -> tuple[list[int], int | None]:
    """Traces above the number `after` that came before `before`, unix seconds, and of which no charge is left.

    The second is where to go on; None at the end. Traces are numbered in the order in which they came.
    """
    page = connection.execute(
        "SELECT trace_no, at_s FROM traces WHERE trace_no > ? ORDER BY trace_no LIMIT ?", (after, AT_ONCE)
    ).fetchall()
    if not page:
        return [], None
    last = page[-1][0]
    found = [number for (number,) in connection.execute(_GONE, (after, last, before))]
    is_over = len(page) < AT_ONCE or all(at_s >= before for _, at_s in page)
    return found, None if is_over else last


def remove(connection: sqlite3.Connection, numbers: Iterable[int]) -> int:
    """Remove traces of which nothing has come since they were found; return how many went."""
    waits = "SELECT 1 FROM trace_requests WHERE trace_no = ? AND due_ns IS NOT NULL"
    quiet = [number for number in numbers if connection.execute(waits, (number,)).fetchone() is None]
    _delete(connection, quiet)
    return len(quiet)


def _delete(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    for table in _TABLES:
        connection.executemany(f"DELETE FROM {table} WHERE trace_no = ?", [(number,) for number in numbers])
