"""A request in quarantine becomes usage: it is filed as the charge that it always was, under the same identity.

So a span that comes again is known, and a request that was billed in the meantime is not billed once more.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from otel_usageflow.extensions.sqlite_storage.flow import windows
from otel_usageflow.extensions.sqlite_storage.flow.commit import commit_usage
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.quarantine.filters import NAMES
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import trace_of
from otel_usageflow.ledger.quarantine import Decided
from otel_usageflow.model.usage import Terms, UsageBatch, UsageRecord

_WINDOW = 1
"""Seconds. Windows merge when they are frozen; short ones lie in the right billing period whatever its edge."""
_ROW = f"""
SELECT q.at_ns, q.quantity, o.policy, o.source, s.user, s.metadata_field, s.payload, m.event_name, a.account, a.book,
       m.account_id
FROM quarantine q JOIN origins o USING (origin_id) {NAMES} WHERE q.key = ? AND q.resolved_at IS NULL
"""
_BILLED_OTHERWISE = """
SELECT 1 FROM records r JOIN origins o USING (origin_id)
WHERE r.key = ?1 OR r.key >= ?2 AND r.key <= ?3 AND o.policy = ?4
"""

BILLED, RELEASED = "billed", "released"
"""What `quarantine.resolution` says."""

NamesOf = Callable[[str], Names]
"""The numbers of a book."""


def file(
    connection: sqlite3.Connection, names_of: NamesOf, keys: Iterable[bytes], decided: Decided, now: float
) -> list[bytes]:
    """File requests that wait in quarantine, with what was decided about them; return the keys of the new charges.

    A request that its policy has billed since, if only under another event name, leaves quarantine as billed.
    """
    batches: dict[str, list[UsageRecord]] = {}
    keys_of: dict[str, list[bytes]] = {}
    for key in keys:
        row = connection.execute(_ROW, (key,)).fetchone()
        if row is None:
            continue
        policy = row[2]
        span = key[:28]
        if connection.execute(_BILLED_OTHERWISE, (key, span, span + b"\xff" * 4, policy)).fetchone():
            _resolve(connection, [key], BILLED, now)
            continue
        batches.setdefault(row[9], []).append(_record(key, row, decided))
        keys_of.setdefault(row[9], []).append(key)
    filed: list[bytes] = []
    for book, records in batches.items():
        _file(connection, names_of(book), records, now)
        _resolve(connection, keys_of[book], RELEASED, now)
        filed.extend(keys_of[book])
    return filed


def _file(connection: sqlite3.Connection, names: Names, records: list[UsageRecord], now: float) -> None:
    places = set()
    for one in records:
        meter_id = names.meter(connection, one.terms.account or "", one.terms.event_name)
        series_id = names.series(connection, meter_id, one.terms, one.user, one.payload)
        places.add((one.at_ns // 1_000_000_000, series_id))
    for second, series_id in places:
        windows.seal_series(connection, series_id, second)
    committed = commit_usage(connection, names, UsageBatch(records=records), _WINDOW, now)
    assert committed.billed == len(records)  # none is there yet, none is too old: checked by the caller
    (seq,) = connection.execute("SELECT seq FROM ledger").fetchone()
    connection.executemany(
        "UPDATE open_windows SET sealed = 1 WHERE length = ? AND start = ? AND series_id = ? AND first_seq = ?",
        [(_WINDOW, second, series_id, seq) for second, series_id in places],
    )


def _record(key: bytes, row: tuple[Any, ...], decided: Decided) -> UsageRecord:
    at_ns, quantity, policy, source, user, field, payload, event_name, account, _, _ = row
    trace_id, span_id = trace_of(key)
    given = [name for name, missing in (("--as-user", not user), ("--quantity", quantity is None)) if missing]
    return UsageRecord(
        trace_id=trace_id,
        span_id=span_id,
        ended_ns=int.from_bytes(key[:4], "big") * 1_000_000_000,
        at_ns=at_ns,
        terms=Terms(policy, event_name, field or None, account or None),
        user=user or decided.user,
        source=" and ".join(filter(None, [source, *([f"released {' '.join(given)}"] if given else [])])),
        quantity=decided.quantity if quantity is None else amount.restored(quantity),
        payload=tuple(sorted(json.loads(payload).items())) if payload else (),
    )


def _resolve(connection: sqlite3.Connection, keys: Iterable[bytes], resolution: str, now: float) -> None:
    connection.executemany(
        "UPDATE quarantine SET resolved_at = ?, resolution = ? WHERE key = ?",
        [(now, resolution, key) for key in keys],
    )
