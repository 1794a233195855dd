"""Reading a ledger row by row for `ledger export`, on one snapshot and in constant memory."""

import json
import sqlite3
from collections.abc import Callable, Generator
from functools import lru_cache

from otel_usageflow.extensions.sqlite_storage.proof.walk import Minute, Record, Window, walk
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import MINUTE, trace_of
from otel_usageflow.ledger.export import What
from otel_usageflow.ledger.report import STANDING_OF_EVENT, Standing
from otel_usageflow.ledger.states import EventState

Row = tuple[object, ...]
"""Values in the order of `ledger.export.COLUMNS`; moments in microseconds, JSON as values."""

_END = 2**32 - 1
_NAMES = """JOIN series s ON s.series_id = {0}.series_id JOIN meters m ON m.meter_id = s.meter_id
            JOIN accounts a ON a.account_id = m.account_id"""
_DISCARDED = -2


def rows(
    connection: sqlite3.Connection, what: What, since: float | None, until: float | None
) -> Generator[Row, None, None]:
    """Every row from `since` to before `until`, unix seconds. The connection is in a read transaction.

    What decides is the end of the span for usage, the timestamp for events and corrections, the entry's moment for
    the audit log, and the moment of the usage for quarantine.
    """
    read: dict[What, Callable[[sqlite3.Connection, float, float], Generator[Row, None, None]]] = {
        What.USAGE: _usage,
        What.EVENTS: _events,
        What.AUDIT: _audit,
        What.QUARANTINE: _quarantine,
        What.CORRECTIONS: _corrections,
    }
    return read[what](connection, 0.0 if since is None else since, float(_END) if until is None else until)


def _usage(connection: sqlite3.Connection, since: float, until: float) -> Generator[Row, None, None]:
    first = max(int(since), 0) // MINUTE * MINUTE
    last = min(-(-int(until) // MINUTE) * MINUTE, _END)

    @lru_cache(maxsize=100_000)
    def series(number: int) -> tuple[str, str, str, str, str]:
        found = connection.execute(
            "SELECT account, event_name, metadata_field, user, payload FROM series JOIN meters USING (meter_id) "
            "JOIN accounts USING (account_id) WHERE series_id = ?",
            (number,),
        ).fetchone()
        return found or ("", "", "", "", "")

    @lru_cache(maxsize=10_000)
    def origin(number: int) -> tuple[str, str]:
        found = connection.execute("SELECT policy, source FROM origins WHERE origin_id = ?", (number,)).fetchone()
        return found or ("", "")

    @lru_cache(maxsize=10_000)
    def event(number: int) -> tuple[str, str, str, str | None]:
        return _told(connection, number)

    for minute, records in walk(connection, first, last):
        for record in records:
            key, series_id, origin_id, at_ns, quantity, _ = record
            if quantity is None or not since <= at_ns / 1e9 < until:
                continue
            account, event_name, field, user, payload = series(series_id)
            trace_id, span_id = trace_of(key)
            standing, reason, customer, identifier, window = _place(minute, record, event)
            yield (
                *(trace_id.hex(), span_id.hex(), at_ns // 1000, account or None, event_name),
                *(value or None for value in (*origin(origin_id), field, user)),
                json.loads(payload) if payload else {},
                *(amount.plain(amount.restored(quantity)), standing, reason, customer, identifier),
                *((window.start * 1_000_000, window.length) if window is not None else (None, None)),
            )


def _place(
    minute: Minute, record: Record, event: Callable[[int], tuple[str, str, str, str | None]]
) -> tuple[str, str | None, str | None, str | None, Window | None]:
    """Where a record stands: standing, reason, customer, identifier and its window."""
    window = next(iter(minute.of(record)), None)
    own = [one for one in minute.own.get(record[0], ()) if one[6] != EventState.RETURNED]
    number = min((one[1] for one in own), default=0)
    if not number and window is not None and (window.event_id or 0) > 0:
        number = window.event_id or 0
    if number:
        identifier, customer, standing, reason = event(number)
        return standing, reason, customer, identifier, window
    if window is None or window.table == "open_windows":
        return str(Standing.COLLECTING), None, None, None, window
    if window.table == "held_windows":
        return str(Standing.QUARANTINED), window.reason, None, None, window
    discarded = window.event_id == _DISCARDED
    return str(Standing.DISCARDED if discarded else Standing.BILLED), None, None, None, window


def _told(connection: sqlite3.Connection, event_id: int) -> tuple[str, str, str, str | None]:
    """identifier, customer, standing and reason of an event; of an amount in parts the worst part decides."""
    row = connection.execute(
        """SELECT e.identifier, e.customer, e.reason,
                  (SELECT p.state FROM meter_events p WHERE p.event_id BETWEEN e.event_id AND e.event_id + e.parts - 1
                   ORDER BY p.state = 2, p.state IN (0, 1), p.state = 4 LIMIT 1)
           FROM meter_events e WHERE e.event_id = ?""",
        (event_id,),
    ).fetchone()
    if row is None:
        return "", "", str(Standing.UNKNOWN), None
    return row[0], row[1], str(STANDING_OF_EVENT[EventState(row[3])]), row[2]


def _events(connection: sqlite3.Connection, since: float, until: float) -> Generator[Row, None, None]:
    found = connection.execute(
        """SELECT e.event_id, e.identifier, a.account, e.event_name, e.customer, e.value, e.timestamp, e.payload,
                  e.requests, e.part, e.parts, e.state, e.attempts, e.uncertain, e.frozen_at, e.first_attempt_at,
                  e.settled_at, e.duplicate, e.reason, e.code, e.message, e.request_id, e.record_key
           FROM meter_events e JOIN accounts a USING (account_id)
           WHERE e.timestamp >= ? AND e.timestamp < ? ORDER BY e.event_id""",
        (since, until),
    )
    for row in found:
        trace_id, span_id = _span(row[22])
        yield (
            *row[:2],
            row[2] or None,
            *row[3:6],
            row[6] * 1_000_000,
            json.loads(row[7]) if row[7] else {},
            *row[8:11],
            EventState(row[11]).name.lower(),
            row[12],
            bool(row[13]),
            *(_micros(moment) for moment in row[14:17]),
            bool(row[17]),
            *row[18:22],
            *(trace_id, span_id),
        )


def _audit(connection: sqlite3.Connection, since: float, until: float) -> Generator[Row, None, None]:
    found = connection.execute(
        "SELECT entry, at, actor, action, subject, before, after, why, hash FROM audit "
        "WHERE at >= ? AND at < ? ORDER BY entry",
        (since, until),
    )
    for entry, at, actor, action, subject, before, after, why, hash_ in found:
        yield (entry, _micros(at), actor, action, subject, json.loads(before), json.loads(after), why, hash_.hex())


def _quarantine(connection: sqlite3.Connection, since: float, until: float) -> Generator[Row, None, None]:
    requests = connection.execute(
        f"""SELECT q.reason, a.account, m.event_name, o.policy, s.metadata_field, s.user, q.key, q.quantity, q.at_ns,
                   q.quarantined_at, q.resolved_at, q.resolution, q.seen
            FROM quarantine q JOIN origins o USING (origin_id) {_NAMES.format("q")}
            WHERE q.at_ns >= ? AND q.at_ns < ? ORDER BY q.key""",
        (int(since) * 10**9, int(until) * 10**9),
    )
    for reason, account, name, policy, field, user, key, quantity, at_ns, since_, resolved, how, seen in requests:
        yield (
            *("request", reason, account or None, name, policy, field or None, user or None, None),
            *(*_span(key), None, 1, _plain(quantity), at_ns // 1000),
            *(_micros(since_), _micros(resolved), how, json.loads(seen), None, None),
        )
    windows = connection.execute(
        f"""SELECT w.reason, a.account, m.event_name, s.metadata_field, s.user, w.requests, w.total, w.start,
                   w.held_at FROM held_windows w {_NAMES.format("w")}
            WHERE w.start >= ? AND w.start < ? ORDER BY w.start""",
        (since, until),
    )
    for reason, account, name, field, user, count, total, start, held_at in windows:
        yield (
            *("window", reason, account or None, name, None, field or None, user or None, None, None, None, None),
            *(count, _plain(total), start * 1_000_000, _micros(held_at), None, None, None, None, None),
        )
    events = connection.execute(
        """SELECT coalesce(e.reason, 'unknown'), a.account, e.event_name, e.customer, e.record_key, e.identifier,
                  e.requests, e.value, e.timestamp, e.settled_at, e.code, e.message
           FROM meter_events e JOIN accounts a USING (account_id)
           WHERE e.state IN (3, 4) AND e.timestamp >= ? AND e.timestamp < ? ORDER BY e.event_id""",
        (since, until),
    )
    for reason, account, name, customer, key, identifier, count, value, at, settled, code, message in events:
        yield (
            *("event", reason, account or None, name, None, None, None, customer, *_span(key), identifier, count),
            *(value, at * 1_000_000, _micros(settled), None, None, None, code, message),
        )


def _corrections(connection: sqlite3.Connection, since: float, until: float) -> Generator[Row, None, None]:
    found = connection.execute(
        """SELECT j.adjustment_id, a.account, j.event_name, j.customer, j.quantity, j.timestamp, c.identifier, j.why,
                  j.actor, j.asked_at, j.state, e.identifier, j.attempts, j.settled_at, j.message
           FROM adjustments j JOIN accounts a USING (account_id)
           LEFT JOIN meter_events c ON c.event_id = j.corrects LEFT JOIN meter_events e ON e.event_id = j.event_id
           WHERE j.timestamp >= ? AND j.timestamp < ? ORDER BY j.adjustment_id""",
        (since, until),
    )
    for number, account, name, customer, quantity, at, corrects, why, actor, asked, state, *rest in found:
        identifier, attempts, settled, message = rest
        yield (
            *(number, account or None, name, customer, _plain(quantity), at * 1_000_000, corrects, why, actor),
            *(_micros(asked), state, identifier, attempts, _micros(settled), message),
        )


def _span(key: bytes | None) -> tuple[str | None, str | None]:
    if key is None:
        return None, None
    trace_id, span_id = trace_of(key)
    return trace_id.hex(), span_id.hex()


def _micros(moment: float | None) -> int | None:
    return None if moment is None else round(moment * 1_000_000)


def _plain(quantity: int | str | None) -> str | None:
    return None if quantity is None else amount.plain(amount.restored(quantity))
