"""Which SERVER spans of old SDKs are one request, when they arrive in different batches.

An SDK that does not set `Span.flags` leaves open whether a span's parent is local. If the parent is a SERVER span
of the same service, the two are one request, and the parent is the one that counts, whichever arrives first:

- the parent is known already: the span is the inner one, and is not billed;
- a child is known already, and was taken for a request: its charge is taken back as long as its window is open.
  If it was frozen already, the child's charge stands and the parent is not billed again under that event name.

Only spans without the flag pay for this; the processor has resolved what came in one batch.

A span that came with a company's token is known under its ids and the company's scope (`Names.scope`), so that nobody
can name another company's span as a parent, or as a child.
"""

import sqlite3
from collections.abc import Collection, Sequence, Set
from typing import NamedTuple

from otel_usageflow.extensions.sqlite_storage.flow import request_ids
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import charge_key, first_key, window_start
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.usage import UnflaggedSpan, UsageBatch, UsageRecord

_REMEMBER = "INSERT OR IGNORE INTO server_spans VALUES (?, ?, ?, ?)"


class Nesting(NamedTuple):
    """What of a batch is billed, and what became of inner spans."""

    records: Sequence[UsageRecord]
    """To be filed. What had given way to a charge that was undone, with the same request id, is among them again."""
    inner: Set[tuple[bytes, bytes]] = frozenset()
    """(trace id, span id) of what came now and is the inner span of a request."""
    stands: Set[tuple[bytes, bytes, str, str]] = frozenset()
    """(trace id, span id, account, event name) of requests that an inner span has billed for good."""
    undone: Collection[bytes] = ()
    """Charges that inner spans have not, or have no more."""


def settle_nesting(connection: sqlite3.Connection, names: Names, batch: UsageBatch, now: float) -> Nesting:
    """Leave out the records of inner spans; charges of inner spans that came earlier are undone."""
    if not batch.unflagged:
        return Nesting(batch.records)
    scope = names.scope(connection, batch.caller)
    inner = {span[:2] for span in batch.unflagged if _parent_is_known(connection, span, scope)}
    stands: set[tuple[bytes, bytes, str, str]] = set()
    undone: list[bytes] = []
    meters = names.meters_for(connection, batch.caller)
    for span in batch.unflagged:
        for child, ended_s in _children(connection, span, scope):
            for meter_id, account, event_name in meters:
                key = charge_key(meter_id, span.trace_id, child, ended_s * 1_000_000_000)
                if _take_back(connection, key, now):
                    undone.append(key)
                else:
                    stands.add((span.trace_id, span.span_id, account, event_name))
    again = request_ids.forget_inner(connection, undone)
    connection.executemany(
        _REMEMBER,
        [
            (
                span.trace_id + span.span_id + scope,
                span.trace_id + span.parent_span_id + scope if span.parent_span_id else b"",
                span.service,
                span.ended_ns // 1_000_000_000,
            )
            for span in batch.unflagged
        ],
    )
    records = [
        record
        for record in [*batch.records, *again]
        if (record.trace_id, record.span_id) not in inner
        and (record.trace_id, record.span_id, record.terms.account or "", record.terms.event_name) not in stands
    ]
    return Nesting(records, inner, stands, undone)


def _parent_is_known(connection: sqlite3.Connection, span: UnflaggedSpan, scope: bytes) -> bool:
    if not span.parent_span_id:
        return False
    row = connection.execute(
        "SELECT service FROM server_spans WHERE span = ?", (span.trace_id + span.parent_span_id + scope,)
    ).fetchone()
    return row is not None and row[0] == span.service


def _children(connection: sqlite3.Connection, span: UnflaggedSpan, scope: bytes) -> list[tuple[bytes, int]]:
    """(span id, second of the end) of the spans of the same service that name this one as their parent."""
    rows = connection.execute(
        "SELECT span, ended_s FROM server_spans WHERE parent = ? AND parent != x'' AND service = ?",
        (span.trace_id + span.span_id + scope, span.service),
    )
    return [(row[0][16:24], row[1]) for row in rows]


def _take_back(connection: sqlite3.Connection, key: bytes, now: float) -> bool:
    """Undo the charge of an inner span, in quarantine too; False if it is there and can no longer be undone."""
    connection.execute(
        "UPDATE quarantine SET resolved_at = ?, resolution = 'inner span' WHERE key = ? AND resolved_at IS NULL",
        (now, key),
    )
    return take_back(connection, key)


def take_back(connection: sqlite3.Connection, key: bytes) -> bool:
    """Undo a charge whose window is still open; False if it is there and can no longer be undone.

    The row stays, without a quantity, so that the span is recognised if it is sent once more.
    """
    row = connection.execute(
        "SELECT series_id, at_ns, quantity, seq FROM records WHERE key = ? AND quantity IS NOT NULL", (key,)
    ).fetchone()
    if row is None:
        return True
    series_id, at_ns, quantity, seq = row
    sent_by_itself = "SELECT 1 FROM meter_events WHERE record_key = ? AND state != ?"
    if connection.execute(sent_by_itself, (key, EventState.RETURNED)).fetchone():
        return False
    for table in ("open_windows", "held_windows"):
        windows = connection.execute(
            f"SELECT length, start, first_seq, total FROM {table} "
            "WHERE series_id = ? AND start BETWEEN ? AND ? AND ? BETWEEN first_seq AND last_seq",
            (series_id, at_ns // 1_000_000_000 - 60, at_ns // 1_000_000_000, seq),
        ).fetchall()
        for length, start, first_seq, total in windows:
            if window_start(at_ns, length) != start:
                continue
            less = amount.add(amount.restored(total), -amount.restored(quantity))
            connection.execute(
                f"UPDATE {table} SET requests = requests - 1, total = ? "
                "WHERE length = ? AND start = ? AND series_id = ? AND first_seq = ?",
                (amount.stored(less), length, start, series_id, first_seq),
            )
            connection.execute("UPDATE records SET quantity = NULL WHERE key = ?", (key,))
            _mend_last(connection, table, (length, start, series_id, first_seq))
            trace_index.outdate(connection, [key])
            return True
    return False


def _mend_last(connection: sqlite3.Connection, table: str, place: tuple[int, int, int, int]) -> None:
    """Let a window say again what came last of what is left in it; freezing passes by one that is empty."""
    length, start, series_id, first_seq = place
    which = "length = ? AND start = ? AND series_id = ? AND first_seq = ?"
    last = connection.execute(
        f"""
        SELECT at_ns, quantity FROM records
        WHERE (key >= ? AND key < ? OR key IN (SELECT key FROM stray_records WHERE at_s >= ? AND at_s < ?))
          AND series_id = ? AND seq BETWEEN ? AND (SELECT last_seq FROM {table} WHERE {which})
          AND quantity IS NOT NULL AND at_ns >= ? AND at_ns < ?
        ORDER BY at_ns DESC, seq DESC, key DESC LIMIT 1
        """,
        (
            first_key(start),
            first_key(start + length),
            start,
            start + length,
            series_id,
            first_seq,
            *place,
            start * 1_000_000_000,
            (start + length) * 1_000_000_000,
        ),
    ).fetchone()
    if last is not None:
        connection.execute(f"UPDATE {table} SET last_ns = ?, last_value = ? WHERE {which}", (*last, *place))
