"""Conservation: every record stands at exactly one place, and every sum is the sum of what it says it is.

- A record belongs to exactly one window.
- A window's count and sum are those of its records that have no meter event of their own.
- A meter event's value, with the further parts of the same amount, is that of its windows, its record or its
  correction.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from otel_usageflow.extensions.sqlite_storage.proof.walk import Minute, OwnEvent, Record, Window, walk
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import trace_of
from otel_usageflow.ledger.identifier import of_idempotency_key, place_of
from otel_usageflow.ledger.states import EventState
from otel_usageflow.ledger.verification import Progress, Verification
from otel_usageflow.model.usage import Quantity, Reason

_SECOND = 1_000_000_000
_LOOK = "`otel-usageflow explain` shows what is known of it; restore a backup, or tell the makers of otel-usageflow"
_BILL = "compare with `otel-usageflow reconcile`, then restore a backup or correct it with `usage adjust`"


@dataclass(slots=True)
class _Found:
    """What the records of a window add up to."""

    requests: int = 0
    total: Quantity = 0
    first_seq: int | None = None
    last_seq: int | None = None
    latest_ns: int = -1
    latest: list[Quantity] = field(default_factory=list)
    """Quantities at the latest moment."""
    taken_ns: set[int] = field(default_factory=set)
    """Moments of charges that were taken out: the last moment and value may be theirs."""


def check_conservation(connection: sqlite3.Connection, found: Verification, progress: Progress) -> None:
    """Walk through the whole ledger. Needs a snapshot."""
    (pruned_to,) = connection.execute("SELECT pruned_to FROM ledger").fetchone()
    # While a pass of pruning is under way, a window may have lost some of its records, and goes after them.
    under_way = connection.execute("SELECT 1 FROM pruning").fetchone() is not None
    first, last = connection.execute("SELECT min(key), max(key) FROM records").fetchone()
    begin, end = (int.from_bytes(key[:4], "big") if isinstance(key, bytes) else 0 for key in (first, last))
    for minute, records in walk(connection):
        progress("records", minute.start - begin, end - begin)
        pruned = minute.start + 60 <= pruned_to
        _check_minute(connection, minute, records, pruned=pruned, under_way=pruned and under_way, found=found)
    _check_lost_events(connection, found, progress)
    _check_names(connection, found)


def _check_minute(
    connection: sqlite3.Connection,
    minute: Minute,
    records: Iterable[Record],
    *,
    pruned: bool,
    under_way: bool,
    found: Verification,
) -> None:
    sums: dict[int, _Found] = defaultdict(_Found)
    for record in records:
        found.looked_at["records"] += 1
        key, at_s = record[0], record[3] // _SECOND
        if (
            int.from_bytes(key[:4], "big") != at_s
            and not connection.execute(
                "SELECT 1 FROM stray_records WHERE at_s = ? AND key = ?", (at_s, key)
            ).fetchone()
        ):
            found.find("conservation", _name(key), "its moment is not that of its key", _LOOK)
        _check_record(minute, record, sums, found)
    by_event: dict[int, list[Window]] = defaultdict(list)
    for windows in minute.windows.values():
        for window in windows:
            found.looked_at["windows"] += 1
            if window.event_id is not None and window.event_id > 0:
                by_event[window.event_id].append(window)
            if not pruned or (id(window) in sums and not under_way):
                real = _with_what_left(connection, window, sums[id(window)])
                _check_window(window, _with_what_is_pruned(window, real) if pruned else real, found)
                _check_last(connection, window, real, found, pruned=pruned)
    for event_id, covered in by_event.items():
        _check_event(connection, event_id, covered, found)


def _check_record(minute: Minute, record: Record, sums: dict[int, _Found], found: Verification) -> None:
    key, _, _, at_ns, quantity, seq = record
    windows = minute.of(record)
    for window in windows:
        entry = sums[id(window)]
        entry.first_seq = seq if entry.first_seq is None else min(seq, entry.first_seq)
        entry.last_seq = seq if entry.last_seq is None else max(seq, entry.last_seq)
    if quantity is None:
        for window in windows:
            sums[id(window)].taken_ns.add(at_ns)
        return
    where = _name(key)
    value = _amount(quantity)
    if value is None:
        found.find("conservation", where, f"its quantity {quantity!r} is no number", _LOOK)
        return
    if len(windows) != 1:
        how = "is in no window, so it is not billed" if not windows else f"is in {len(windows)} windows"
        found.find("conservation", where, how, _LOOK)
    own = [event for event in minute.own.get(key, ()) if event[6] != EventState.RETURNED]
    if own:
        _check_own(where, value, at_ns, own, found)
    for window in windows:
        entry = sums[id(window)]
        if at_ns > entry.latest_ns:
            entry.latest_ns, entry.latest = at_ns, []
        if at_ns == entry.latest_ns:
            entry.latest.append(value)
        if not own:
            entry.requests += 1
            entry.total = amount.add(entry.total, value)


def _check_own(where: str, value: Quantity, at_ns: int, own: Sequence[OwnEvent], found: Verification) -> None:
    """The events of one record: the parts of its quantity, once."""
    told = _sum(event[2] for event in own)
    parts = sorted(event[4] for event in own)
    if parts != list(range(own[0][5])):
        found.find("conservation", where, "has meter events that are not the parts of one amount", _BILL)
    elif told != value:
        found.find("conservation", where, f"counts {amount.plain(value)}, and its meter event says {told}", _BILL)
    elif any(event[3] != at_ns // _SECOND for event in own):
        found.find("conservation", where, "has a meter event of another moment", _BILL)


def _with_what_left(connection: sqlite3.Connection, window: Window, real: _Found) -> _Found:
    """The same, knowing of charges that were taken out of a window and filed anew, in other commits."""
    if (window.first_seq, window.last_seq) != (real.first_seq, real.last_seq):
        left = connection.execute(
            "SELECT min(seq), max(seq) FROM left_windows "
            "WHERE at_ns >= ? AND at_ns < ? AND series_id = ? AND seq BETWEEN ? AND ?",
            (
                window.start * _SECOND,
                (window.start + window.length) * _SECOND,
                window.series_id,
                window.first_seq,
                window.last_seq,
            ),
        ).fetchone()
        if left[0] is not None:
            real.first_seq = min(left[0], left[0] if real.first_seq is None else real.first_seq)
            real.last_seq = max(left[1], left[1] if real.last_seq is None else real.last_seq)
    return real


def _with_what_is_pruned(window: Window, real: _Found) -> _Found:
    """The same, knowing that a charge which was taken back is pruned before its window, if that still waits."""
    told, there = (window.first_seq, window.last_seq), (real.first_seq, real.last_seq)
    if there[0] is not None and there[1] is not None and told != there and told[0] <= there[0] <= there[1] <= told[1]:
        real.first_seq, real.last_seq = told
    return real


def _check_window(window: Window, real: _Found, found: Verification) -> None:
    where = _place(window)
    total = _amount(window.total)
    if (window.requests, total) != (real.requests, real.total):
        said = f"{window.requests} requests and {window.total}"
        problem = f"says {said}, and its records are {real.requests} and {amount.plain(real.total)}"
        found.find("conservation", where, problem, _BILL if window.table == "windows" else _LOOK)
    elif (window.first_seq, window.last_seq) != (real.first_seq, real.last_seq):
        found.find("conservation", where, "names other commits than those of its records", _LOOK)


def _check_last(
    connection: sqlite3.Connection, window: Window, real: _Found, found: Verification, *, pruned: bool
) -> None:
    """The last moment is that of a record, or of one that was taken out since, pruned before its window perhaps."""
    inside = 0 <= window.last_ns - window.start * _SECOND < window.length * _SECOND
    is_last = window.last_ns == real.latest_ns and _amount(window.last_value) in real.latest
    if not inside or not (
        is_last
        or pruned
        or (window.last_ns >= real.latest_ns and (window.last_ns in real.taken_ns or _left_at(connection, window)))
    ):
        found.find("conservation", _place(window), "names another last moment or value than its records", _LOOK)


def _left_at(connection: sqlite3.Connection, window: Window) -> bool:
    """Whether a charge of the window's last moment was taken out and filed anew."""
    place = (window.last_ns, window.series_id, window.first_seq, window.last_seq)
    query = "SELECT 1 FROM left_windows WHERE at_ns = ? AND series_id = ? AND seq BETWEEN ? AND ?"
    return connection.execute(query, place).fetchone() is not None


def _place(window: Window) -> str:
    return f"window of {window.length} s from {window.start}, series {window.series_id}, commit {window.first_seq}"


def _check_event(
    connection: sqlite3.Connection, event_id: int, windows: Sequence[Window], found: Verification
) -> None:
    """The event of some windows, with its further parts."""
    where = f"meter event {event_id}"
    rows = connection.execute(
        """SELECT value, timestamp, requests, part, parts, state, record_key, account_id, event_name, payload
           FROM meter_events WHERE event_id >= ?1
           AND event_id < ?1 + (SELECT max(parts, 1) FROM meter_events WHERE event_id = ?1)""",
        (event_id,),
    ).fetchall()
    if not rows or rows[0][4] != len(rows) or [row[3] for row in rows] != list(range(len(rows))):
        found.find("conservation", where, "is missing, or a part of it, and windows are billed by it", _BILL)
        return
    total, told = _sum(window.total for window in windows), _sum(row[0] for row in rows)
    filled = [window for window in windows if window.requests]  # one whose charges were all taken back says nothing
    latest = max(filled or windows, key=lambda window: window.last_ns)
    # A meter that takes the last value is told that; the ledger does not say which meters do.
    if told is None or (told != total and not (len(rows) == 1 and told == _amount(latest.last_value))):
        found.find("conservation", where, f"says {told}, and its windows are {total}", _BILL)
    if rows[0][2] != sum(window.requests for window in windows) or any(row[2] for row in rows[1:]):
        found.find("conservation", where, "counts other requests than its windows", _LOOK)
    if any(row[1] != latest.last_ns // _SECOND for row in rows):
        found.find("conservation", where, "has another moment than its windows", _BILL)
    if any(row[5] == EventState.RETURNED or row[6] is not None for row in rows):
        found.find("conservation", where, "was given back, or is that of one record, and covers windows", _BILL)
    (fitting,) = connection.execute(
        "SELECT count(*) FROM series JOIN meters USING (meter_id) WHERE series_id IN "
        f"({', '.join('?' * len(windows))}) AND account_id = ? AND event_name = ? AND payload = ?",
        (*(window.series_id for window in windows), *rows[0][7:]),
    ).fetchone()
    if fitting != len({window.series_id for window in windows}):
        found.find("conservation", where, "bills windows of another account, event name or payload", _BILL)


def _check_lost_events(connection: sqlite3.Connection, found: Verification, progress: Progress) -> None:
    """Meter events that bill nothing that the ledger knows of."""
    corrections = {
        row[0] for row in connection.execute("SELECT event_id FROM adjustments WHERE event_id IS NOT NULL")
    }
    (last,) = connection.execute("SELECT coalesce(max(event_id), 0) FROM meter_events").fetchone()
    rows = connection.execute(
        """SELECT e.event_id, e.part, e.state, e.record_key, e.identifier, e.idempotency_key,
                  CASE WHEN e.record_key IS NOT NULL THEN EXISTS (SELECT 1 FROM records WHERE key = e.record_key)
                       ELSE EXISTS (SELECT 1 FROM windows w WHERE w.event_id = e.event_id - e.part
                                    AND w.event_id NOT IN (0, -1)) END
           FROM meter_events e ORDER BY e.event_id"""
    )
    for event_id, part, state, record_key, name, idempotency_key, covers in rows:
        found.looked_at["meter_events"] += 1
        if event_id % 10_000 == 0:
            progress("meter events", event_id, last)
        place = (None, int.from_bytes(record_key[:4], "big")) if record_key is not None else (event_id, None)
        if of_idempotency_key(idempotency_key) != name or place_of(name) != place:
            found.find("conservation", f"meter event {event_id}", "its identifiers do not belong to it", _BILL)
        if state not in EventState.__members__.values():
            found.find("conservation", f"meter event {event_id}", f"is in state {state}, which there is none", _LOOK)
        elif not covers and state != EventState.RETURNED and event_id - part not in corrections:
            what = "windows" if record_key is None else "a request"
            found.find(
                "conservation", f"meter event {event_id}", f"bills {what} that the ledger does not have", _BILL
            )


_REASONS = ", ".join(f"'{reason}'" for reason in Reason)
_NAMED = {
    "windows that are held for no reason that there is": "SELECT count(*) FROM held_windows "
    f"WHERE reason NOT IN ({_REASONS})",
    "records of a user that is not known": "SELECT count(*) FROM records r "
    "WHERE NOT EXISTS (SELECT 1 FROM series s WHERE s.series_id = r.series_id) "
    "OR NOT EXISTS (SELECT 1 FROM origins o WHERE o.origin_id = r.origin_id)",
    "users of an event name that is not known": "SELECT count(*) FROM series "
    "WHERE meter_id NOT IN (SELECT meter_id FROM meters)",
    "event names of an account that is not known": "SELECT count(*) FROM meters "
    "WHERE account_id NOT IN (SELECT account_id FROM accounts)",
    "meter events of an account that is not known": "SELECT count(*) FROM meter_events "
    "WHERE account_id NOT IN (SELECT account_id FROM accounts)",
    "requests that are billed and in quarantine, too": "SELECT count(*) FROM quarantine q JOIN records r USING (key) "
    "WHERE q.resolved_at IS NULL",
    "meter events whose attempts contradict each other": "SELECT count(*) FROM meter_events "
    "WHERE (attempts = 0) != (first_attempt_at IS NULL) OR uncertain NOT IN (0, 1) OR duplicate NOT IN (0, 1)",
    "records whose moment is not found by their key": "SELECT count(*) FROM stray_records s "
    "WHERE NOT EXISTS (SELECT 1 FROM records r WHERE r.key = s.key AND r.at_ns / 1000000000 = s.at_s)",
}


def _check_names(connection: sqlite3.Connection, found: Verification) -> None:
    for what, query in _NAMED.items():
        (count,) = connection.execute(query).fetchone()
        if count:
            found.find("conservation", "the ledger", f"there are {count} {what}", _LOOK)


def _name(key: object) -> str:
    if not isinstance(key, bytes) or len(key) != 32:
        return f"record {key!r}"
    trace_id, span_id = trace_of(key)
    return f"trace {trace_id.hex()} span {span_id.hex()}"


def _amount(value: object) -> Quantity | None:
    """A stored amount; None if it is none, as after damage."""
    try:
        return amount.restored(value) if isinstance(value, int | str) else None
    except (InvalidOperation, ValueError):
        return None


def _sum(values: Iterable[object]) -> Quantity | None:
    total: Quantity = 0
    for value in values:
        one = _amount(value) if not isinstance(value, Decimal) else value
        if one is None:
            return None
        total = amount.add(total, one)
    return total
