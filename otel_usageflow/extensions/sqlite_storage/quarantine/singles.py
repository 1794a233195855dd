"""The single requests in quarantine: trace, span, moment, and what a span without a user carried."""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from otel_usageflow.extensions.sqlite_storage.quarantine import entries as quarantine_entries
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import first_key, trace_of
from otel_usageflow.ledger.quarantine import Entry, Filters, Kind, Single
from otel_usageflow.ledger.states import EventState

_SECOND = 1_000_000_000
_NAMES = """JOIN origins o USING (origin_id) JOIN series s USING (series_id) JOIN meters m USING (meter_id)
            JOIN accounts a USING (account_id)"""
_WHO = "o.policy, a.account, m.event_name, s.metadata_field, s.user, a.book"
_REQUEST = f"SELECT q.key, q.at_ns, q.quantity, q.seen, {_WHO} FROM quarantine q {_NAMES} WHERE q.key = ?"
_RECORD = f"SELECT r.key, r.at_ns, r.quantity, '[]', {_WHO} FROM records r {_NAMES} WHERE r.key = ?"
_OF_WINDOW = f"""
SELECT r.key, r.at_ns, r.quantity, '[]', {_WHO} FROM records r {_NAMES}
WHERE (r.key >= :low AND r.key < :high
       OR r.key IN (SELECT key FROM stray_records WHERE at_s >= :start AND at_s < :end))
  AND r.series_id = :series AND r.seq BETWEEN :first AND :last AND r.quantity IS NOT NULL
  AND r.at_ns >= :start * {_SECOND} AND r.at_ns < :end * {_SECOND}
  AND NOT EXISTS (SELECT 1 FROM meter_events e WHERE e.record_key = r.key AND e.state != {int(EventState.RETURNED)})
"""


def singles(connection: sqlite3.Connection, filters: Filters, limit: int) -> list[Single]:
    """At most `limit` single requests; those that never were in a window come first."""
    found: list[Single] = []
    for page in quarantine_entries.pages(connection, filters):
        for entry in page:
            for single in _of_entry(connection, entry):
                if filters.trace_id is None or single.trace_id == filters.trace_id.hex():
                    found.append(single)
                if len(found) >= limit:
                    return found
    return found


def _of_entry(connection: sqlite3.Connection, entry: Entry) -> Iterator[Single]:
    customer = None
    if entry.kind is Kind.REQUEST:
        rows = connection.execute(_REQUEST, (entry.place,)).fetchall()
    elif isinstance(entry.place, tuple):
        rows = _of_window(connection, "held_windows", entry.place)
    else:
        customer, key, first = connection.execute(
            "SELECT customer, record_key, event_id - part FROM meter_events WHERE event_id = ?", (entry.place,)
        ).fetchone()
        if key is not None:
            rows = connection.execute(_RECORD, (key,)).fetchall()
        else:
            covered = connection.execute(
                "SELECT length, start, series_id, first_seq FROM windows WHERE event_id = ?", (first,)
            ).fetchall()
            rows = [row for place in covered for row in _of_window(connection, "windows", place)]
    for key, at_ns, quantity, seen, policy, account, event_name, field, user, book in rows:
        trace_id, span_id = trace_of(key)
        yield Single(
            account=account,
            reason=entry.reason,
            code=entry.code,
            policy=policy,
            event_name=event_name,
            metadata_field=field or None,
            user=user,
            customer=customer or (user if not field and user else None),
            quantity=None if quantity is None else amount.restored(quantity),
            ended_at=at_ns / _SECOND,
            trace_id=trace_id.hex(),
            span_id=span_id.hex(),
            identifier=entry.identifier,
            seen=tuple(json.loads(seen)),
            mode=book.rpartition(" ")[2],
        )


def _of_window(connection: sqlite3.Connection, table: str, place: tuple[int, int, int, int]) -> list[tuple[Any, ...]]:
    length, start, series_id, first_seq = place
    (last_seq,) = connection.execute(
        f"SELECT last_seq FROM {table} WHERE length = ? AND start = ? AND series_id = ? AND first_seq = ?", place
    ).fetchone()
    values = {
        "low": first_key(start),
        "high": first_key(start + length),
        "start": start,
        "end": start + length,
        "series": series_id,
        "first": first_seq,
        "last": last_seq,
    }
    return sorted(connection.execute(_OF_WINDOW, values).fetchall(), key=lambda row: (row[1], row[0]))
