"""What may be pruned: found portion by portion in snapshots, without keeping the writer waiting."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from otel_usageflow.extensions.sqlite_storage.flow.windows import DISCARDED
from otel_usageflow.extensions.sqlite_storage.upkeep import traces
from otel_usageflow.extensions.sqlite_storage.upkeep.prune import ROWS, SETTLED, Portion
from otel_usageflow.ledger.charge import MINUTE, first_key, window_start
from otel_usageflow.ledger.retention import Limits
from otel_usageflow.ledger.states import EventState

_SECOND = 1_000_000_000
_EVENT = "SELECT event_id, state, settled_at, parts FROM meter_events WHERE "
_LENGTHS = """
WITH RECURSIVE found(length) AS (
  SELECT min(length) FROM windows
  UNION ALL SELECT (SELECT min(w.length) FROM windows w WHERE w.length > found.length) FROM found
  WHERE found.length IS NOT NULL
) SELECT length FROM found WHERE length IS NOT NULL
"""


class Looking:
    """Finds portions. Each method is a step of the pass, and goes through a table once.

    Args:
        read: gives a connection with a snapshot; it is asked anew for every portion, so that no snapshot lives long.
        limits: what may go.
    """

    def __init__(self, read: Callable[[], sqlite3.Connection], limits: Limits) -> None:
        self._read = read
        self._limits = limits

    def portions(self) -> Iterator[Portion]:
        """All portions of a pass, in order. Some are empty."""
        for step in (
            self._records,
            self._windows,
            self._given_back,
            self._quarantine,
            self._server_spans,
            self._traces,
        ):
            place: Any = None
            while True:
                connection = self._read()
                try:
                    portion, place = step(connection, place)
                finally:
                    connection.close()
                yield portion
                if place is None:
                    break

    def _records(self, connection: sqlite3.Connection, place: bytes | None) -> tuple[Portion, bytes | None]:
        rows = connection.execute(
            "SELECT key, series_id, at_ns, quantity, seq FROM records WHERE key > ? AND key < ? ORDER BY key LIMIT ?",
            (place or b"", first_key(self._limits.before), ROWS),
        ).fetchall()
        judge, portion = _Judge(connection, self._limits), Portion()
        for key, series_id, at_ns, quantity, seq in rows:
            if quantity is None:  # it was taken back, and belongs to no window
                portion.records.append((key, at_ns // _SECOND))
                continue
            event_id = judge.window_of(series_id, at_ns, seq)
            if event_id is None or not judge.may_go(event_id, series_id, at_ns // _SECOND):
                continue
            if event_id > 0:
                portion.rest_on.add(event_id)
            portion.events.update(judge.events_of(key))
            portion.records.append((key, at_ns // _SECOND))
        return portion, rows[-1][0] if len(rows) == ROWS else None

    def _windows(
        self, connection: sqlite3.Connection, place: tuple[int, ...] | None
    ) -> tuple[Portion, tuple[int, ...] | None]:
        length, *rest = place or (0, 0, 0, 0)
        if place is None or place[1] >= self._limits.before:
            found = connection.execute("SELECT min(length) FROM windows WHERE length > ?", (length,)).fetchone()
            if found[0] is None:
                return Portion(), None
            length, rest = found[0], [-1, 0, 0]
        rows = connection.execute(
            "SELECT start, series_id, first_seq, last_seq, event_id FROM windows WHERE length = ? AND start < ? "
            "AND (start, series_id, first_seq) > (?, ?, ?) ORDER BY start, series_id, first_seq LIMIT ?",
            (length, self._limits.before, *rest, ROWS // 3),
        ).fetchall()
        judge, portion = _Judge(connection, self._limits), Portion()
        for start, series_id, first_seq, _, event_id in rows:
            if judge.has_records(length, start, series_id) or not judge.may_go(event_id, series_id, start):
                continue
            if event_id <= 0:
                portion.windows.append((length, start, series_id, first_seq))
            elif event_id not in portion.events:
                covered = connection.execute(
                    "SELECT length, start, series_id, first_seq FROM windows WHERE event_id = ?", (event_id,)
                ).fetchall()
                if not any(judge.has_records(*window[:3]) for window in covered):
                    portion.windows.extend(covered)
                    portion.events.update(judge.parts_of(event_id))
        if len(rows) == ROWS // 3:
            return portion, (length, *rows[-1][:3])
        return portion, (length, self._limits.before, 0, 0)

    def _given_back(self, connection: sqlite3.Connection, place: int | None) -> tuple[Portion, int | None]:
        rows = connection.execute(
            f"""SELECT event_id, state, settled_at, parts FROM meter_events WHERE event_id IN
                (SELECT event_id FROM returned_windows WHERE event_id > ? AND start < ?) AND state = ?
                ORDER BY event_id LIMIT {ROWS // 3}""",
            (place or 0, self._limits.before, EventState.RETURNED),
        ).fetchall()
        portion = Portion()
        for event_id, _, settled_at, parts in rows:
            if (settled_at or 0) < self._limits.settled_before:
                portion.events.update(range(event_id, event_id + parts))
        return portion, rows[-1][0] if len(rows) == ROWS // 3 else None

    def _quarantine(self, connection: sqlite3.Connection, place: bytes | None) -> tuple[Portion, bytes | None]:
        rows = connection.execute(
            "SELECT key, resolved_at FROM quarantine WHERE key > ? AND key < ? ORDER BY key LIMIT ?",
            (place or b"", first_key(self._limits.before), ROWS),
        ).fetchall()
        gone = [key for key, at in rows if at is not None and at < self._limits.settled_before]
        return Portion(quarantine=gone), rows[-1][0] if len(rows) == ROWS else None

    def _server_spans(self, connection: sqlite3.Connection, place: bytes | None) -> tuple[Portion, bytes | None]:
        rows = connection.execute(
            "SELECT span, ended_s FROM server_spans WHERE span > ? ORDER BY span LIMIT ?", (place or b"", ROWS)
        ).fetchall()
        gone = [span for span, ended_s in rows if ended_s < self._limits.before]
        return Portion(server_spans=gone), rows[-1][0] if len(rows) == ROWS else None

    def _traces(self, connection: sqlite3.Connection, place: int | None) -> tuple[Portion, int | None]:
        numbers, place = traces.gone(connection, place or 0, self._limits.before)
        return Portion(traces=numbers), place


class _Judge:
    """Whether windows and events may go; remembers what it has looked up in one snapshot."""

    def __init__(self, connection: sqlite3.Connection, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits
        self._windows: dict[tuple[int, int], list[tuple[int, ...]]] = {}
        self._events: dict[int, bool] = {}
        self._unsettled_records: dict[int, set[int]] = {}
        self._left: dict[tuple[int, int], set[int]] = {}
        self._lengths = [length for (length,) in connection.execute(_LENGTHS)]

    def window_of(self, series_id: int, at_ns: int, seq: int) -> int | None:
        """What stands in place of the event id in the window of a record; None if it is in no frozen window."""
        minute = at_ns // _SECOND // MINUTE * MINUTE
        found = self._windows.get((series_id, minute))
        if found is None:
            found = self._windows[series_id, minute] = [
                row
                for length in self._lengths
                for row in self._connection.execute(
                    "SELECT length, start, first_seq, last_seq, event_id FROM windows "
                    "WHERE length = ? AND start >= ? AND start < ? AND series_id = ?",
                    (length, minute, minute + MINUTE, series_id),
                )
            ]
        for length, start, first_seq, last_seq, event_id in found:
            if first_seq <= seq <= last_seq and window_start(at_ns, length) == start:
                return int(event_id)
        return None

    def may_go(self, event_id: int, series_id: int, second: int) -> bool:
        """Whether a window may go: that of an event, or one with none."""
        if event_id > 0:
            return self._is_settled(event_id)
        minute = second // MINUTE * MINUTE
        if series_id in self._strays(minute):
            return False
        return event_id in (0, DISCARDED) or series_id not in self._records_unsettled(minute)

    def has_records(self, length: int, start: int, series_id: int) -> bool:
        """Whether any record is left that may belong to a window."""
        found = self._left.get((length, start))
        if found is None:
            rows = self._connection.execute(
                "SELECT DISTINCT series_id FROM records WHERE quantity IS NOT NULL AND (key >= ? AND key < ? "
                "OR key IN (SELECT key FROM stray_records WHERE at_s >= ? AND at_s < ?))",
                (first_key(start), first_key(start + length), start, start + length),
            )
            found = self._left[length, start] = {series for (series,) in rows}
        return series_id in found

    def events_of(self, key: bytes) -> list[int]:
        """The events of a record of its own."""
        return [row[0] for row in self._connection.execute(_EVENT + "record_key = ?", (key,))]

    def parts_of(self, event_id: int) -> range:
        """The events that tell one amount."""
        (parts,) = self._connection.execute(
            "SELECT parts FROM meter_events WHERE event_id = ?", (event_id,)
        ).fetchone()
        return range(event_id, event_id + max(parts, 1))

    def _is_settled(self, event_id: int) -> bool:
        """Whether an amount that was summed is settled in all of its parts, and none of its windows has a stray."""
        known = self._events.get(event_id)
        if known is None:
            parts = self.parts_of(event_id)
            rows = self._connection.execute(_EVENT + "event_id BETWEEN ? AND ?", (parts[0], parts[-1])).fetchall()
            known = all(self._settled(state, at) for _, state, at, _ in rows) and not self._is_corrected(parts)
            if known:
                covered = self._connection.execute(
                    "SELECT series_id, start FROM windows WHERE event_id = ?", (event_id,)
                )
                known = not any(
                    series_id in self._strays(start // MINUTE * MINUTE) for series_id, start in covered.fetchall()
                )
            self._events[event_id] = known
        return known

    def _settled(self, state: int, at: float | None) -> bool:
        return state in SETTLED and (at or 0) < self._limits.settled_before

    def _is_corrected(self, parts: range) -> bool:
        """Whether a correction is under way."""
        query = "SELECT 1 FROM adjustments WHERE corrects BETWEEN ? AND ? AND settled_at IS NULL"
        return self._connection.execute(query, (parts[0], parts[-1])).fetchone() is not None

    def _records_unsettled(self, minute: int) -> set[int]:
        """The series of which a record of this minute has an event of its own that is not settled."""
        found = self._unsettled_records.get(minute)
        if found is None:
            rows = self._connection.execute(
                "SELECT r.series_id, e.event_id, e.state, e.settled_at FROM meter_events e "
                "JOIN records r ON r.key = e.record_key WHERE e.record_key >= ? AND e.record_key < ? "
                "OR e.record_key IN (SELECT key FROM stray_records WHERE at_s >= ? AND at_s < ?)",
                (first_key(minute), first_key(minute + MINUTE), minute, minute + MINUTE),
            )
            found = self._unsettled_records[minute] = {
                series_id
                for series_id, event_id, state, at in rows.fetchall()
                if not self._settled(state, at) or self._is_corrected(range(event_id, event_id + 1))
            }
        return found

    def _strays(self, minute: int) -> set[int]:
        """The series with a record of this minute that is filed elsewhere, and not before the limit.

        Such a record is recognised by where it is filed: the end on the wire, in the future of our clock.
        """
        rows = self._connection.execute(
            "SELECT r.series_id FROM stray_records s JOIN records r USING (key) "
            "WHERE s.at_s >= ? AND s.at_s < ? AND s.key >= ?",
            (minute, minute + MINUTE, first_key(self._limits.before)),
        )
        return {series_id for (series_id,) in rows}
