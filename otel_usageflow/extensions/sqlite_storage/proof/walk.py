"""Walking through a ledger in the order of time: records with the window that each belongs to, minute by minute.

Windows never cross a UTC minute, so that a minute can be looked at by itself, and memory holds the windows of one
minute and no records. Whoever walks needs one snapshot: a read transaction around all of it.
"""

import heapq
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from otel_usageflow.ledger.charge import MINUTE, first_key, window_start

_SECOND = 1_000_000_000
_WINDOW = "w.length, w.start, w.series_id, w.first_seq, w.last_seq, w.requests, w.total, w.last_ns, w.last_value"
_RECORD = "r.key, r.series_id, r.origin_id, r.at_ns, r.quantity, r.seq"
_OWN = "record_key, event_id, value, timestamp, part, parts, state, requests FROM meter_events"

Record = tuple[bytes, int, int, int, int | str | None, int]
"""key, series_id, origin_id, at_ns, quantity, seq."""
OwnEvent = tuple[bytes, int, str, int, int, int, int, int]
"""record_key, event_id, value, timestamp, part, parts, state, requests."""


@dataclass(slots=True)
class Window:
    """A window, in whichever table it stands."""

    table: str
    length: int
    start: int
    series_id: int
    first_seq: int
    last_seq: int
    requests: int
    total: int | str
    last_ns: int
    last_value: int | str
    event_id: int | None
    """Only of frozen ones; see `schema.py` for 0 and below."""
    reason: str | None
    """Only of held ones."""


@dataclass(slots=True)
class Minute:
    """What ended within one UTC minute."""

    start: int
    windows: dict[int, list[Window]] = field(default_factory=lambda: defaultdict(list))
    """By series."""
    own: dict[bytes, list[OwnEvent]] = field(default_factory=dict)
    """Meter events of single records, by record."""

    def of(self, record: Record) -> list[Window]:
        """The windows that a record belongs to: exactly one, in a ledger that is whole."""
        _, series_id, _, at_ns, _, seq = record
        return [
            window
            for window in self.windows.get(series_id, ())
            if window.first_seq <= seq <= window.last_seq and window.start == window_start(at_ns, window.length)
        ]


def walk(
    connection: sqlite3.Connection, since: int = 0, until: int = 2**32 - 1
) -> Iterator[tuple[Minute, Iterator[Record]]]:
    """Every minute that has windows or records, from `since` to before `until` (unix seconds, whole minutes).

    The records of a minute must be read before the next minute is asked for.
    """
    windows = groupby(_windows(connection, since, until), key=lambda window: window.start // MINUTE)
    records = groupby(_records(connection, since, until), key=lambda record: record[3] // _SECOND // MINUTE)
    window_group, record_group = next(windows, None), next(records, None)
    while window_group is not None or record_group is not None:
        number = min(group[0] for group in (window_group, record_group) if group is not None)
        minute = Minute(number * MINUTE)
        if window_group is not None and window_group[0] == number:
            for window in window_group[1]:
                minute.windows[window.series_id].append(window)
            window_group = next(windows, None)
        if record_group is not None and record_group[0] == number:
            minute.own = _own_events(connection, minute.start)
            yield minute, record_group[1]
            record_group = next(records, None)
        else:
            yield minute, iter(())


def _windows(connection: sqlite3.Connection, since: int, until: int) -> Iterator[Window]:
    """All windows in the order of their starts; those of the large tables come from their keys in that order."""
    streams = []
    within = "w.start >= ? AND w.start < ?"
    for table, last in (("open_windows", "NULL, NULL"), ("windows", "w.event_id, NULL")):
        for length in _lengths(connection, table):
            rows = connection.execute(
                f"SELECT '{table}', {_WINDOW}, {last} FROM {table} w WHERE w.length = ? AND {within} "
                "ORDER BY w.length, w.start",
                (length, since, until),
            )
            streams.append(iter(rows))
    held = f"SELECT 'held_windows', {_WINDOW}, NULL, w.reason FROM held_windows w WHERE {within} ORDER BY w.start"
    streams.append(iter(connection.execute(held, (since, until))))
    for row in heapq.merge(*streams, key=itemgetter(2)):
        yield Window(*row)


def _lengths(connection: sqlite3.Connection, table: str) -> Iterator[int]:
    following = f"SELECT min(length) FROM {table} WHERE length > ?"
    length = 0
    while (length := connection.execute(following, (length,)).fetchone()[0]) is not None:
        yield length


def _records(connection: sqlite3.Connection, since: int, until: int) -> Iterator[Record]:
    """All records in the order of the seconds in which they are billed."""
    straying = {key for (key,) in connection.execute("SELECT key FROM stray_records")}
    low, high = first_key(since), first_key(until)
    rows = connection.execute(
        f"SELECT {_RECORD} FROM records r WHERE r.key >= ? AND r.key < ? ORDER BY r.key", (low, high)
    )
    if not straying:
        yield from rows
        return
    strays = connection.execute(
        f"SELECT {_RECORD} FROM stray_records s JOIN records r USING (key) WHERE s.at_s >= ? AND s.at_s < ? "
        "ORDER BY s.at_s, s.key",
        (since, until),
    )
    at_home = (row for row in rows if row[0] not in straying)
    yield from heapq.merge(at_home, strays, key=lambda record: record[3] // _SECOND)


def _own_events(connection: sqlite3.Connection, start: int) -> dict[bytes, list[OwnEvent]]:
    """The meter events of single records that are billed in a minute."""
    found: dict[bytes, list[OwnEvent]] = {}
    rows = [
        *connection.execute(
            f"SELECT {_OWN} WHERE record_key >= ? AND record_key < ?", (first_key(start), first_key(start + MINUTE))
        ),
        *connection.execute(
            f"SELECT {_OWN} WHERE record_key IN (SELECT key FROM stray_records WHERE at_s >= ? AND at_s < ?)",
            (start, start + MINUTE),
        ),
    ]
    for row in rows:
        events = found.setdefault(row[0], [])
        if row not in events:
            events.append(row)
    return found
