"""Taking usage: charges that are new are filed and added to their windows, the rest changes nothing.

All of it runs inside one transaction of the writer. The common case, a batch in which every charge is new, is
one insert a record and one upsert a window, many of them in one statement; only when the count of inserted rows is
lower than expected is it worth asking which charges were there already.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from otel_usageflow.extensions.sqlite_storage.exact import exact_sum
from otel_usageflow.extensions.sqlite_storage.flow import nesting, request_ids, traces
from otel_usageflow.extensions.sqlite_storage.flow.rows import execute_rows
from otel_usageflow.extensions.sqlite_storage.flow.sorting import Row, Sorted, Unbillable, sort_out
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import STRIPE_PAST, charge_key, window_start
from otel_usageflow.ledger.ledger import Committed
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.usage import Reason, UsageBatch, UsageRecord

# The number of the commit; how far was pruned; whether anything is in quarantine.
_NEXT = """
UPDATE ledger SET seq = seq + 1
RETURNING seq, pruned_to, EXISTS (SELECT 1 FROM quarantine WHERE resolved_at IS NULL)
"""
_LARGE = 2**62
"""Whole amounts from here on are stored as text."""


_INSERT = "INSERT OR IGNORE INTO records SELECT *, ?1 FROM given"
# Given are start, series, requests, total, last moment and last value. A window that was reopened after it had been
# held is sealed, and takes no more records: its range of commits must not grow over that of a window that was frozen
# in the meantime. Only sums that SQLite cannot make exactly are made by Python.
_UPSERT = f"""
INSERT INTO open_windows SELECT ?1, column1, column2, coalesce(
  (SELECT first_seq FROM open_windows w
   WHERE w.length = ?1 AND w.start = column1 AND w.series_id = column2 AND sealed = 0), ?2
), ?2, column3, column4, column5, column6, 0 FROM given WHERE true
ON CONFLICT (length, start, series_id, first_seq) DO UPDATE SET
  last_seq = excluded.last_seq,
  requests = requests + excluded.requests,
  total = CASE
    WHEN typeof(total) = 'integer' AND typeof(excluded.total) = 'integer'
      AND abs(total + excluded.total) < {_LARGE} THEN total + excluded.total
    ELSE exact_sum(total, excluded.total) END,
  last_value = CASE WHEN excluded.last_ns >= last_ns THEN excluded.last_value ELSE last_value END,
  last_ns = max(last_ns, excluded.last_ns)
"""
_QUARANTINE = """
INSERT OR IGNORE INTO quarantine (key, series_id, origin_id, at_ns, quantity, reason, seen, quarantined_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def commit_usage(
    connection: sqlite3.Connection,
    names: Names,
    batch: UsageBatch,
    window: int,
    now: float,
    indexed: trace_index.Indexed | None = None,
) -> Committed:
    """File the batch's records. `window` is the length of windows in seconds, `now` unix seconds.

    `indexed` is how far the index of traces reaches, for the service, which knows it.
    """
    nested = nesting.settle_nesting(connection, names, batch, now)
    stored = traces.store(connection, names, batch, nested, now)
    new, quarantined = _file(connection, names, nested.records, window, now, indexed)
    due = None if stored.due_ns is None else stored.due_ns / 1_000_000_000
    added = Counter(reason for _, reason in quarantined)
    return Committed(len(new), len(nested.records) - len(new) - added.total() + stored.duplicates, added, due)


def can_share(batch: UsageBatch) -> bool:
    """Whether a batch may be filed together with others: nothing but the records themselves decides about them."""
    return not (batch.unflagged or batch.trace_requests or batch.trace_spans)


def commit_together(
    connection: sqlite3.Connection,
    names: Names,
    batches: Sequence[UsageBatch],
    window: int,
    now: float,
    indexed: trace_index.Indexed | None = None,
) -> list[Committed]:
    """File batches that can share a commit as one, in their order; otherwise as `commit_usage` of each."""
    records = list(chain.from_iterable(batch.records for batch in batches))
    new, quarantined = _file(connection, names, records, window, now, indexed)
    if len(new) == len(records):
        return [Committed(len(batch.records), 0, {}) for batch in batches]
    billed = {bytes(row[0]) for row in new}
    held = dict(quarantined)
    told: list[Committed] = []
    for batch in batches:
        keys = [_key_of(connection, names, record) for record in batch.records]
        own = sum(key in billed for key in dict.fromkeys(keys))
        added = Counter(held[key] for key in dict.fromkeys(keys) if key in held)
        billed.difference_update(keys)
        for key in keys:
            held.pop(key, None)
        told.append(Committed(own, len(keys) - own - added.total(), added))
    return told


def _file(
    connection: sqlite3.Connection,
    names: Names,
    records: Sequence[UsageRecord],
    window: int,
    now: float,
    indexed: trace_index.Indexed | None,
) -> tuple[list[Row], list[tuple[bytes, Reason]]]:
    """File records; return what of them is new: the billed, and what went into quarantine."""
    seq, pruned_to, held = connection.execute(_NEXT).fetchone()
    # What was pruned would not be recognised. So nothing of that time is billed any more, whatever the clock says.
    oldest = max(now - STRIPE_PAST, pruned_to)
    found = sort_out(connection, names, records, oldest)
    if found.ids:
        found = _settle_ids(connection, found, seq, now)
    new = _insert(connection, found, seq)
    if new and (indexed is None or min(found.billable) < indexed.key):
        trace_index.outdate(connection, (bytes(row[0]) for row in new))
    if held:
        _resolve_quarantine(connection, new, now)
    _add_to_windows(connection, new, window, seq)
    quarantined = _quarantine(connection, found.unbillable, now)
    reached("commit: written")
    return new, quarantined


def _key_of(connection: sqlite3.Connection, names: Names, record: UsageRecord) -> bytes:
    meter_id = names.meter(connection, record.terms.account or "", record.terms.event_name)
    return charge_key(meter_id, record.trace_id, record.span_id, record.ended_ns)


def _settle_ids(connection: sqlite3.Connection, found: Sorted, seq: int, now: float) -> Sorted:
    """Leave out what is the same request as another charge."""
    billable, unbillable, ids = found.billable, found.unbillable, found.ids
    arrivals = [
        request_ids.Arrival(key, ids[key], series_id, origin_id, at_ns, amount.restored(quantity), billable=True)
        for key, (_, series_id, origin_id, at_ns, quantity) in billable.items()
        if key in ids
    ] + [
        request_ids.Arrival(
            u.key, ids[u.key], u.series_id, u.origin_id, u.record.at_ns, u.record.quantity, billable=False
        )
        for u in unbillable
        if u.key in ids
    ]
    gone = request_ids.settle(connection, arrivals, seq, now, lambda key: nesting.take_back(connection, key))
    return found._replace(
        billable={key: row for key, row in billable.items() if key not in gone},
        unbillable=[one for one in unbillable if one.key not in gone],
    )


def _insert(connection: sqlite3.Connection, found: Sorted, seq: int) -> list[Row]:
    """Insert the records that are not there yet, and return those."""
    new = list(found.billable.values())
    if execute_rows(connection, _INSERT, new, (seq,)) != len(new):
        # This commit's number tells its own rows from those that were there.
        mine = "SELECT 1 FROM records WHERE key = ? AND seq = ?"
        new = [row for row in new if connection.execute(mine, (row[0], seq)).fetchone() is not None]
    if found.strays:
        moments = {bytes(row[0]): row[3] for row in new}
        strays = [(moments[key] // 1_000_000_000, key) for key in found.strays if key in moments]
        connection.executemany("INSERT OR IGNORE INTO stray_records VALUES (?, ?)", strays)
    return new


def _add_to_windows(connection: sqlite3.Connection, new: Iterable[Row], window: int, seq: int) -> None:
    """Add the new records to their windows: summed here first, so that a window costs one upsert a commit."""
    windows: dict[int, dict[int, list[Any]]] = {}
    begin = end = 0
    for _, series_id, _, at_ns, quantity in new:
        if not begin <= at_ns < end:
            start = window_start(at_ns, window)
            begin = at_ns // 1_000_000_000 * 1_000_000_000
            end = begin + 1_000_000_000
            sums = windows.setdefault(start, {})
        entry = sums.get(series_id)
        if entry is None:
            sums[series_id] = [1, quantity, at_ns, quantity]
            continue
        entry[0] += 1
        entry[1] = exact_sum(entry[1], quantity)
        if at_ns >= entry[2]:
            entry[2:] = (at_ns, quantity)
    # In the order of their keys, so that SQLite finds neighbours where it just was.
    rows = [
        (start, series_id, *sums[series_id]) for start, sums in sorted(windows.items()) for series_id in sorted(sums)
    ]
    execute_rows(connection, _UPSERT, rows, (window, seq))


def _resolve_quarantine(connection: sqlite3.Connection, new: Iterable[Row], now: float) -> None:
    """A charge that is billed now, for example after a policy was fixed, waits in quarantine no longer."""
    connection.executemany(
        "UPDATE quarantine SET resolved_at = ?, resolution = 'billed' WHERE key = ? AND resolved_at IS NULL",
        [(now, row[0]) for row in new],
    )


def _quarantine(
    connection: sqlite3.Connection, unbillable: Iterable[Unbillable], now: float
) -> list[tuple[bytes, Reason]]:
    """Keep what cannot be billed, unless it was billed before; return what is new."""
    added: list[tuple[bytes, Reason]] = []
    for key, series_id, origin_id, record, reason in unbillable:
        if connection.execute("SELECT 1 FROM records WHERE key = ?", (key,)).fetchone():
            continue
        quantity = None if record.quantity is None else amount.stored(record.quantity)
        row = (key, series_id, origin_id, record.at_ns, quantity, reason, json.dumps(record.seen), now)
        if connection.execute(_QUARANTINE, row).rowcount:
            added.append((key, reason))
            trace_index.outdate(connection, [key])
    return added
