"""Taking usage: charges that are new are filed and added to their windows, the rest changes nothing.

All of it runs inside one transaction of the writer. The common case, a batch in which every charge is new, is
one insert a record and one upsert a window; only when the count of inserted rows is lower than expected is it
worth asking which charges were there already.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from otel_usageflow.extensions.sqlite_storage.flow import nesting, request_ids, traces
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import STRIPE_PAST, charge_key, window_start
from otel_usageflow.ledger.ledger import Committed
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.usage import Quantity, Reason, UsageBatch, UsageRecord

_INSERT = "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?, ?)"
# A window that was reopened after it had been held is sealed, and takes no more records: its range of commits must
# not grow over that of a window that was frozen in the meantime.
_UPSERT = """
INSERT INTO open_windows VALUES (?1, ?2, ?3, coalesce(
  (SELECT first_seq FROM open_windows WHERE length = ?1 AND start = ?2 AND series_id = ?3 AND sealed = 0), ?4
), ?4, ?5, ?6, ?7, ?8, 0)
ON CONFLICT (length, start, series_id, first_seq) DO UPDATE SET
  last_seq = excluded.last_seq,
  requests = requests + excluded.requests,
  total = exact_sum(total, excluded.total),
  last_value = CASE WHEN excluded.last_ns >= last_ns THEN excluded.last_value ELSE last_value END,
  last_ns = max(last_ns, excluded.last_ns)
"""
_QUARANTINE = """
INSERT OR IGNORE INTO quarantine (key, series_id, origin_id, at_ns, quantity, reason, seen, quarantined_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


class _Filed(NamedTuple):
    """A billable record with its numbers."""

    key: bytes
    series_id: int
    origin_id: int
    at_ns: int
    quantity: Quantity


class _Unbillable(NamedTuple):
    """A record that is clear to be unbillable, with its numbers."""

    key: bytes
    series_id: int
    origin_id: int
    record: UsageRecord
    reason: Reason


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
    records = nested.records
    stored = traces.store(connection, names, batch, nested, now)
    seq, pruned_to = connection.execute("UPDATE ledger SET seq = seq + 1 RETURNING seq, pruned_to").fetchone()
    # What was pruned would not be recognised. So nothing of that time is billed any more, whatever the clock says.
    oldest = max(now - STRIPE_PAST, pruned_to)
    billable, unbillable, ids = _sort_out(connection, names, records, oldest)
    if ids:
        billable, unbillable = _settle_ids(connection, ids, (billable, unbillable), seq, now)
    new = _insert(connection, list(billable.values()), seq)
    if billable and (indexed is None or min(billable) < indexed.key):
        trace_index.outdate(connection, (f.key for f in new))
    _resolve_quarantine(connection, new, now)
    _add_to_windows(connection, new, window, seq)
    quarantined = _quarantine(connection, unbillable, now)
    reached("commit: written")
    duplicates = len(records) - len(new) - quarantined.total() + stored.duplicates
    due = None if stored.due_ns is None else stored.due_ns / 1_000_000_000
    return Committed(len(new), duplicates, quarantined, due)


def _sort_out(
    connection: sqlite3.Connection, names: Names, records: Iterable[UsageRecord], oldest: float
) -> tuple[dict[bytes, _Filed], list[_Unbillable], dict[bytes, bytes]]:
    """Give every record its numbers, and tell the billable from the unbillable, as what is older than `oldest`.

    The third are the requests of those that carry an id.
    """
    oldest_ns = int(oldest * 1_000_000_000)
    billable: dict[bytes, _Filed] = {}
    unbillable: list[_Unbillable] = []
    ids: dict[bytes, bytes] = {}
    for record in records:
        terms = record.terms
        meter_id = names.meter(connection, terms.account or "", terms.event_name)
        key = charge_key(meter_id, record.trace_id, record.span_id, record.ended_ns)
        series_id = names.series(connection, meter_id, terms, record.user, record.payload)
        origin_id = names.origin(connection, terms.policy, record.source)
        reason = record.reason
        if reason is None and record.at_ns < oldest_ns:
            reason = Reason.TOO_OLD
        if reason is not None:
            unbillable.append(_Unbillable(key, series_id, origin_id, record, reason))
        elif key not in billable:
            assert record.quantity is not None  # a record without a reason has a quantity
            billable[key] = _Filed(key, series_id, origin_id, record.at_ns, record.quantity)
        if record.request_id:
            ids[key] = request_ids.request_of(meter_id, record.request_id)
    return billable, unbillable, ids


def _settle_ids(
    connection: sqlite3.Connection,
    ids: Mapping[bytes, bytes],
    sorted_out: tuple[dict[bytes, _Filed], list[_Unbillable]],
    seq: int,
    now: float,
) -> tuple[dict[bytes, _Filed], list[_Unbillable]]:
    """Leave out what is the same request as another charge."""
    billable, unbillable = sorted_out
    arrivals = [
        request_ids.Arrival(f.key, ids[f.key], f.series_id, f.origin_id, f.at_ns, f.quantity, billable=True)
        for f in billable.values()
        if f.key in ids
    ] + [
        request_ids.Arrival(
            u.key, ids[u.key], u.series_id, u.origin_id, u.record.at_ns, u.record.quantity, billable=False
        )
        for u in unbillable
        if u.key in ids
    ]
    gone = request_ids.settle(connection, arrivals, seq, now, lambda key: nesting.take_back(connection, key))
    return (
        {key: filed for key, filed in billable.items() if key not in gone},
        [one for one in unbillable if one.key not in gone],
    )


def _insert(connection: sqlite3.Connection, filed: list[_Filed], seq: int) -> list[_Filed]:
    """Insert the records that are not there yet, and return those."""
    if not filed:
        return filed
    connection.execute("SAVEPOINT records")
    rows = [(f.key, f.series_id, f.origin_id, f.at_ns, amount.stored(f.quantity), seq) for f in filed]
    if connection.executemany(_INSERT, rows).rowcount == len(rows):
        connection.execute("RELEASE records")
        new = filed
    else:
        connection.execute("ROLLBACK TO records")
        connection.execute("RELEASE records")
        there = "SELECT 1 FROM records WHERE key = ?"
        new = [f for f in filed if connection.execute(there, (f.key,)).fetchone() is None]
        rows = [(f.key, f.series_id, f.origin_id, f.at_ns, amount.stored(f.quantity), seq) for f in new]
        connection.executemany(_INSERT, rows)
    strays = [
        (f.at_ns // 1_000_000_000, f.key) for f in new if f.at_ns // 1_000_000_000 != int.from_bytes(f.key[:4], "big")
    ]
    if strays:
        connection.executemany("INSERT OR IGNORE INTO stray_records VALUES (?, ?)", strays)
    return new


def _add_to_windows(connection: sqlite3.Connection, new: Iterable[_Filed], window: int, seq: int) -> None:
    """Add the new records to their windows: summed here first, so that a window costs one upsert a batch."""
    sums: dict[tuple[int, int], list[Quantity]] = {}
    for f in new:
        place = (window_start(f.at_ns, window), f.series_id)
        entry = sums.get(place)
        if entry is None:
            sums[place] = [1, f.quantity, f.at_ns, f.quantity]
            continue
        entry[0] = int(entry[0]) + 1
        entry[1] = amount.add(entry[1], f.quantity)
        if f.at_ns >= entry[2]:
            entry[2:] = [f.at_ns, f.quantity]
    connection.executemany(
        _UPSERT,
        [
            (window, start, series_id, seq, requests, amount.stored(total), last_ns, amount.stored(last_value))
            for (start, series_id), (requests, total, last_ns, last_value) in sums.items()
        ],
    )


def _resolve_quarantine(connection: sqlite3.Connection, new: Iterable[_Filed], now: float) -> None:
    """A charge that is billed now, for example after a policy was fixed, waits in quarantine no longer."""
    if connection.execute("SELECT 1 FROM quarantine WHERE resolved_at IS NULL LIMIT 1").fetchone():
        connection.executemany(
            "UPDATE quarantine SET resolved_at = ?, resolution = 'billed' WHERE key = ? AND resolved_at IS NULL",
            [(now, f.key) for f in new],
        )


def _quarantine(connection: sqlite3.Connection, unbillable: Iterable[_Unbillable], now: float) -> Counter[Reason]:
    """Keep what cannot be billed, unless it was billed before; return what is new, by reason."""
    added: Counter[Reason] = Counter()
    for key, series_id, origin_id, record, reason in unbillable:
        if connection.execute("SELECT 1 FROM records WHERE key = ?", (key,)).fetchone():
            continue
        quantity = None if record.quantity is None else amount.stored(record.quantity)
        row = (key, series_id, origin_id, record.at_ns, quantity, reason, json.dumps(record.seen), now)
        if connection.execute(_QUARANTINE, row).rowcount:
            added[reason] += 1
            trace_index.outdate(connection, [key])
    return +added
