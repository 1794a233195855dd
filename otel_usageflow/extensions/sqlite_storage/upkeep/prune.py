"""Pruning: what is settled and older than the retention leaves the ledger, in small portions.

A portion is found by a reader, which may take its time, and removed by the writer in a few milliseconds. What the
reader found holds as long as the meter events that it rests on are where they were, and that is looked at once more
before anything is removed; if one has moved, the portion waits for the next pass.

What belongs to anything that is not settled stays, complete: a meter event with its windows and their records goes as
a whole, or not at all. `ledger.pruned_to` is set before the first row goes, and from then on nothing of before that
moment is billed any more: a span that comes once more would not be recognised.

The order is: records with the events of their own, then windows with theirs, so that each record that is there has
its window at any moment. What a pass has removed so far stands in `pruning`, and in the audit log when it has ended.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.extensions.sqlite_storage.reading.trace_index import SLICE
from otel_usageflow.extensions.sqlite_storage.upkeep import traces
from otel_usageflow.ledger.audit import pruned
from otel_usageflow.ledger.charge import DAY, first_key
from otel_usageflow.ledger.retention import Limits
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.crash_point import reached

ROWS = 1_000
"""Rows that are looked at for a portion, and removed by it at most."""
SETTLED = (EventState.ACCEPTED, EventState.RETURNED, EventState.DISCARDED, EventState.CANCELLED)
"""States in which a meter event may be removed."""


@dataclass(slots=True)
class Portion:
    """Rows that may go, and what must still be true when they do."""

    events: set[int] = field(default_factory=set)
    """To be removed, with their answers; and still settled."""
    rest_on: set[int] = field(default_factory=set)
    """To be still settled."""
    records: list[tuple[bytes, int]] = field(default_factory=list)
    """Key, and second that is billed."""
    windows: list[tuple[int, int, int, int]] = field(default_factory=list)
    quarantine: list[bytes] = field(default_factory=list)
    server_spans: list[bytes] = field(default_factory=list)
    traces: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        found = (self.records, self.windows, self.quarantine, self.server_spans, self.traces)
        return bool(self.events or any(found))


def begin(connection: sqlite3.Connection, limits: Limits) -> None:
    """Set the moment before which nothing is billed any more. It never goes back."""
    connection.execute("UPDATE ledger SET pruned_to = max(pruned_to, ?)", (limits.before,))
    connection.execute("INSERT OR IGNORE INTO pruning VALUES (1, ?, 0, 0, 0, '{}')", (limits.before,))


def newest_usage(connection: sqlite3.Connection) -> float | None:
    """The moment of the newest window, unix seconds; spans that end in the future are filed under their arrival."""
    found = []
    for table in ("windows", "open_windows"):
        length = 0
        following = f"SELECT min(length) FROM {table} WHERE length > ?"
        while (length := connection.execute(following, (length,)).fetchone()[0]) is not None:
            query = f"SELECT max(start) FROM {table} WHERE length = ?"
            found.append(float(connection.execute(query, (length,)).fetchone()[0]))
    return max(found, default=None)


def remove(connection: sqlite3.Connection, portion: Portion) -> int:
    """Remove a portion; return how many rows went, 0 if something has changed since it was found."""
    for event_id in (*portion.events, *portion.rest_on):
        row = connection.execute("SELECT state FROM meter_events WHERE event_id = ?", (event_id,)).fetchone()
        if row is None or row[0] not in SETTLED:
            return 0
    rows = 0

    def gone(query: str, places: Iterable[Sequence[object]]) -> int:
        nonlocal rows
        count = max(connection.executemany(query, places).rowcount, 0)
        rows += count
        return count

    trace_index.outdate(connection, [*(key for key, _ in portion.records), *portion.quarantine])
    counts = {
        "records": gone("DELETE FROM records WHERE key = ?", [(key,) for key, _ in portion.records]),
        "windows": gone(
            "DELETE FROM windows WHERE length = ? AND start = ? AND series_id = ? AND first_seq = ?", portion.windows
        ),
        "quarantine": gone("DELETE FROM quarantine WHERE key = ?", [(key,) for key in portion.quarantine]),
        "server_spans": gone("DELETE FROM server_spans WHERE span = ?", [(span,) for span in portion.server_spans]),
    }
    counts["traces"] = traces.remove(connection, portion.traces)
    rows += counts["traces"]
    both = "SELECT key FROM records WHERE key = ?1 UNION ALL SELECT key FROM quarantine WHERE key = ?1"
    keys = [(key,) for key in (*(key for key, _ in portion.records), *portion.quarantine)]
    gone(f"DELETE FROM request_ids WHERE key = ?1 AND NOT EXISTS ({both})", keys)
    strays = [(second, key) for key, second in portion.records if second != int.from_bytes(key[:4], "big")]
    gone("DELETE FROM stray_records WHERE at_s = ? AND key = ?", strays)
    for table in ("meter_events", "answers", "returned_windows", "released_events"):
        gone(f"DELETE FROM {table} WHERE event_id = ?", [(event_id,) for event_id in portion.events])
    _tell(connection, portion.events, counts)
    reached("prune: written")
    return rows


_PAST_SUSPECTS = """DELETE FROM report_suspects WHERE NOT EXISTS
(SELECT 1 FROM error_reports r WHERE r.report = report_suspects.report AND r.code = report_suspects.code)"""
_OLD_BATCHES = f"""DELETE FROM stream_batches WHERE batch_id IN
(SELECT batch_id FROM stream_batches WHERE begun_at < ? LIMIT {ROWS})"""
"""Reports about them come no more: Stripe lists those of 30 days."""


def sweep(connection: sqlite3.Connection, limits: Limits, bucket: int) -> int:
    """Remove what is found by its place alone, at most `ROWS` of each kind; return how many went.

    `bucket` is the part of the index of traces that has its turn.
    """
    index = f"""DELETE FROM trace_index WHERE bucket = ? AND slice IN (SELECT slice FROM trace_index WHERE bucket = ?
                AND slice < ? AND slice NOT IN (SELECT slice FROM trace_slices) LIMIT {ROWS})"""
    queries: list[tuple[str, Sequence[object]]] = [(index, (bucket, bucket, limits.before // SLICE))]
    if bucket == 0:
        old = (min(limits.before, limits.settled_before),)
        queries += [
            ("DELETE FROM error_samples WHERE settled_at < ?", old),
            ("DELETE FROM error_reports WHERE settled_at < ?", old),
            (_PAST_SUSPECTS, ()),
            (_OLD_BATCHES, old),
            ("DELETE FROM refiled WHERE key < ?", (first_key(limits.before),)),
            ("DELETE FROM left_windows WHERE at_ns < ?", (limits.before * 1_000_000_000,)),
        ]
    return sum(max(connection.execute(query, values).rowcount, 0) for query, values in queries)


def forget_days(connection: sqlite3.Connection, limits: Limits) -> int:
    """Remove sums by day that are too old, at most `ROWS`; return how many went."""
    gone = connection.execute(
        "DELETE FROM daily WHERE (day, series_id, customer) IN "
        f"(SELECT day, series_id, customer FROM daily WHERE day < ? LIMIT {ROWS})",
        (limits.totals_before // DAY,),
    ).rowcount
    if gone > 0:
        _tell(connection, (), {"daily": gone})
    return gone


def finish(connection: sqlite3.Connection, now: float) -> dict[str, int]:
    """End a pass: the audit log tells what it has removed. Nothing is told of a pass that found nothing."""
    row = connection.execute("SELECT cutoff, first_event, last_event, events, counts FROM pruning").fetchone()
    connection.execute("DELETE FROM pruning")
    if row is None:
        return {}
    cutoff, first, last, events, text = row
    counts: dict[str, int] = json.loads(text)
    if events or counts:
        audit.record(connection, pruned(first, last, events, **counts, pruned_to=cutoff), now)
    return {**counts, "meter_events": events}


def _tell(connection: sqlite3.Connection, events: Iterable[int], counts: dict[str, int]) -> None:
    """Add to what this pass has removed."""
    first, last, before, text = connection.execute(
        "SELECT first_event, last_event, events, counts FROM pruning"
    ).fetchone()
    numbers = sorted(events)
    if numbers:
        first, last = min(first or numbers[0], numbers[0]), max(last, numbers[-1])
    told = json.loads(text)
    for name, count in counts.items():
        if count:
            told[name] = told.get(name, 0) + count
    connection.execute(
        "UPDATE pruning SET first_event = ?, last_event = ?, events = ?, counts = ?",
        (first, last, before + len(numbers), json.dumps(told, sort_keys=True)),
    )
