"""Taking usage: charges that are new are filed and added to their windows, the rest changes nothing.

All of it runs inside one transaction of the writer. The common case, a batch in which every charge is new, is
one insert a record and one upsert a window, many of them in one statement; only when the count of inserted rows is
lower than expected is it worth asking which charges were there already.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from otel_usageflow.extensions.sqlite_storage.flow import nesting, request_ids, traces
from otel_usageflow.extensions.sqlite_storage.flow.rows import execute_rows
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import STRIPE_PAST, charge_key, window_start
from otel_usageflow.ledger.ledger import Committed
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.usage import Quantity, Reason, Terms, UsageBatch, UsageRecord

_FEW = 8
"""Records below which users are looked up one by one."""
_LARGE = 2**62
"""Whole amounts from here on are stored as text."""


def _insert_statement(values: str) -> str:
    return f"INSERT OR IGNORE INTO records VALUES {values}"


def _upsert_statement(values: str) -> str:
    # A window that was reopened after it had been held is sealed, and takes no more records: its range of commits
    # must not grow over that of a window that was frozen in the meantime. Only sums that SQLite cannot make exactly
    # are made by Python.
    return f"""
    WITH new (start, series_id, requests, total, last_ns, last_value) AS (VALUES {values})
    INSERT INTO open_windows SELECT ?1, new.start, new.series_id, coalesce(
      (SELECT first_seq FROM open_windows w
       WHERE w.length = ?1 AND w.start = new.start AND w.series_id = new.series_id AND sealed = 0), ?2
    ), ?2, new.requests, new.total, new.last_ns, new.last_value, 0 FROM new WHERE true
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


class _Sorted(NamedTuple):
    """The records of a commit."""

    billable: dict[bytes, _Filed]
    unbillable: list[_Unbillable]
    ids: dict[bytes, bytes]
    """The requests of those that carry an id."""


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
    records = [record for batch in batches for record in batch.records]
    new, quarantined = _file(connection, names, records, window, now, indexed)
    if len(new) == len(records):
        return [Committed(len(batch.records), 0, {}) for batch in batches]
    billed = {filed.key for filed in new}
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
) -> tuple[list[_Filed], list[tuple[bytes, Reason]]]:
    """File records; return what of them is new: the billed, and what went into quarantine."""
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
    return new, quarantined


def _sort_out(connection: sqlite3.Connection, names: Names, records: Sequence[UsageRecord], oldest: float) -> _Sorted:
    """Give every record its numbers, and tell the billable from the unbillable, as what is older than `oldest`."""
    _meet_users(connection, names, records)
    oldest_ns = int(oldest * 1_000_000_000)
    sorted_out = billable, unbillable, ids = _Sorted({}, [], {})
    terms: Terms | None = None
    payload: tuple[tuple[str, str], ...] = ()
    source: str | None = None
    for record in records:
        # Neighbours mostly have all of this in common.
        if record.terms is not terms or record.payload != payload or record.source != source:
            terms, payload, source = record.terms, record.payload, record.source
            meter_id = names.meter(connection, terms.account or "", terms.event_name)
            origin_id = names.origin(connection, terms.policy, source)
            series = names.series_of(meter_id, terms, payload)
        key = charge_key(meter_id, record.trace_id, record.span_id, record.ended_ns)
        series_id = series.get(record.user or "") or names.series(connection, meter_id, terms, record.user, payload)
        reason, at_ns = record.reason, record.at_ns
        if reason is None and at_ns < oldest_ns:
            reason = Reason.TOO_OLD
        if reason is not None:
            unbillable.append(_Unbillable(key, series_id, origin_id, record, reason))
        elif key not in billable:
            assert record.quantity is not None  # a record without a reason has a quantity
            billable[key] = _Filed(key, series_id, origin_id, at_ns, record.quantity)
        if record.request_id:
            ids[key] = request_ids.request_of(meter_id, record.request_id)
    return sorted_out


def _meet_users(connection: sqlite3.Connection, names: Names, records: Sequence[UsageRecord]) -> None:
    """Get to know the users that are new, where they are many, all at once."""
    if len(records) < _FEW:
        return
    new: dict[tuple[int, Terms, tuple[tuple[str, str], ...]], dict[str, None]] = {}
    terms: Terms | None = None
    payload: tuple[tuple[str, str], ...] = ()
    for record in records:
        if record.terms is not terms or record.payload != payload:
            terms, payload = record.terms, record.payload
            meter_id = names.meter(connection, terms.account or "", terms.event_name)
            known = names.series_of(meter_id, terms, payload)
        if (user := record.user or "") not in known:
            new.setdefault((meter_id, terms, payload), {})[user] = None
    for (meter_id, terms, payload), users in new.items():
        names.meet(connection, meter_id, terms, list(users), payload)


def _key_of(connection: sqlite3.Connection, names: Names, record: UsageRecord) -> bytes:
    meter_id = names.meter(connection, record.terms.account or "", record.terms.event_name)
    return charge_key(meter_id, record.trace_id, record.span_id, record.ended_ns)


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
    stored = amount.stored
    rows = [
        (key, series_id, origin_id, at_ns, stored(quantity), seq)
        for key, series_id, origin_id, at_ns, quantity in filed
    ]
    new = filed
    if execute_rows(connection, _insert_statement, rows) != len(rows):
        # This commit's number tells its own rows from those that were there.
        mine = "SELECT 1 FROM records WHERE key = ? AND seq = ?"
        new = [f for f in filed if connection.execute(mine, (f.key, seq)).fetchone() is not None]
    strays = [
        (f.at_ns // 1_000_000_000, f.key) for f in new if f.at_ns // 1_000_000_000 != int.from_bytes(f.key[:4], "big")
    ]
    if strays:
        connection.executemany("INSERT OR IGNORE INTO stray_records VALUES (?, ?)", strays)
    return new


def _add_to_windows(connection: sqlite3.Connection, new: Iterable[_Filed], window: int, seq: int) -> None:
    """Add the new records to their windows: summed here first, so that a window costs one upsert a commit."""
    sums: dict[tuple[int, int], list[Quantity]] = {}
    second, start = -1, 0
    for _, series_id, _, at_ns, quantity in new:
        if at_ns // 1_000_000_000 != second:
            second = at_ns // 1_000_000_000
            start = window_start(at_ns, window)
        entry = sums.get((start, series_id))
        if entry is None:
            sums[start, series_id] = [1, quantity, at_ns, quantity]
            continue
        entry[0] = int(entry[0]) + 1
        entry[1] = amount.add(entry[1], quantity)
        if at_ns >= entry[2]:
            entry[2:] = [at_ns, quantity]
    rows = [
        (*place, requests, amount.stored(total), last_ns, amount.stored(last_value))
        for place, (requests, total, last_ns, last_value) in sums.items()
    ]
    execute_rows(connection, _upsert_statement, rows, (window, seq))


def _resolve_quarantine(connection: sqlite3.Connection, new: Iterable[_Filed], now: float) -> None:
    """A charge that is billed now, for example after a policy was fixed, waits in quarantine no longer."""
    if connection.execute("SELECT 1 FROM quarantine WHERE resolved_at IS NULL LIMIT 1").fetchone():
        connection.executemany(
            "UPDATE quarantine SET resolved_at = ?, resolution = 'billed' WHERE key = ? AND resolved_at IS NULL",
            [(now, f.key) for f in new],
        )


def _quarantine(
    connection: sqlite3.Connection, unbillable: Iterable[_Unbillable], now: float
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
