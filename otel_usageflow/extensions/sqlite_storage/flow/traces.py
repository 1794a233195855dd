"""Keeping what a quantity is summed from: the spans of traces, and the requests that wait for them.

It happens in the transaction of the commit that brings them, so that what was acknowledged is there after any crash.
A span or a request that comes twice changes nothing, with one exception: a request that could not be billed and comes
again with a user, or under a policy that sums other attributes, is decided about once more.

`trace_settling.py` decides, when the wait is over. What comes for a request after that is decided about in the same
way, one wait later, so that late spans may be split and re-ordered, too.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from otel_usageflow.extensions.sqlite_storage.flow.nesting import Nesting
from otel_usageflow.extensions.sqlite_storage.flow.trace_rows import (
    RequestState,
    check_sum,
    numbers_of,
    stored_amounts,
)
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.ledger.charge import charge_key, trace_of
from otel_usageflow.model.usage import TraceRequest, TraceSpan, UsageBatch

_INSERT_SPAN = "INSERT OR IGNORE INTO trace_spans VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_REQUEST = f"INSERT INTO trace_requests VALUES ({', '.join('?' * 16)})"
_BEFORE = "SELECT state, reason, names FROM trace_requests WHERE trace_no = ? AND span_id = ? AND meter_id = ?"
_AT_ONCE = 500
"""Traces that are looked up in one query."""
_LATE = f"""
UPDATE trace_requests SET due_ns = ? + wait_ns
WHERE trace_no = ? AND state IN ({RequestState.SETTLED:d}, {RequestState.COVERED:d}) AND due_ns IS NULL
RETURNING due_ns
"""
_UNDONE = f"""
UPDATE trace_requests SET state = {RequestState.INNER:d}, due_ns = NULL
WHERE trace_no = ? AND span_id = ? AND meter_id = ?
"""


class Stored(NamedTuple):
    """What a commit did for traces."""

    waiting: int = 0
    """Requests that wait now, and did not before."""
    duplicates: int = 0
    due_ns: int | None = None
    """The first moment at which something has to be decided because of this commit."""


class _Trace(NamedTuple):
    number: int
    requested: bool
    """A request of it is billed by it, and was there before this commit."""
    is_new: bool = False


def store(connection: sqlite3.Connection, names: Names, batch: UsageBatch, nesting: Nesting, now: float) -> Stored:
    """Keep a batch's spans and requests; `now` is unix seconds."""
    for key in nesting.undone:
        _undo(connection, key)
    if not batch.trace_spans and not batch.trace_requests:
        return Stored()
    now_ns = int(now * 1_000_000_000)
    asked = [one for one in batch.trace_requests if (one.record.trace_id, one.record.span_id) not in nesting.inner]
    ids = dict.fromkeys([span.trace_id for span in batch.trace_spans] + [one.record.trace_id for one in asked])
    scope = names.scope(connection, batch.caller)
    traces = _find(connection, names.book(connection), list(ids), scope)
    dues = _store_spans(connection, traces, batch.trace_spans, now_ns)
    waiting: dict[tuple[bytes, bytes, str, str], bytes] = {}
    duplicates = 0
    for request in asked:
        record = request.record
        place = (record.trace_id, record.span_id, record.terms.account or "", record.terms.event_name)
        due_ns = max(record.at_ns, now_ns) + request.wait_ns
        trace = traces[record.trace_id]
        if place in waiting:
            trace = trace._replace(is_new=False)
        if _store_request(connection, names, trace, request, due_ns, covered=place in nesting.stands):
            waiting[place] = record.trace_id
            dues.append(due_ns)
        else:
            duplicates += 1
    _write(connection, names.book(connection), traces, set(waiting.values()), int(now), scope)
    return Stored(len(waiting), duplicates, min(dues, default=None))


def _find(
    connection: sqlite3.Connection, book_id: int, trace_ids: Sequence[bytes], scope: bytes
) -> dict[bytes, _Trace]:
    """The numbers of traces; those that are new get the next ones. Only spans of one scope meet there."""
    traces: dict[bytes, _Trace] = {}
    for start in range(0, len(trace_ids), _AT_ONCE):
        some = [trace_id + scope for trace_id in trace_ids[start : start + _AT_ONCE]]
        rows = connection.execute(
            "SELECT trace_id, trace_no, requested FROM traces "
            f"WHERE book_id = ? AND trace_id IN ({', '.join('?' * len(some))})",
            (book_id, *some),
        )
        traces.update({trace_id[:16]: _Trace(number, bool(requested)) for trace_id, number, requested in rows})
    (last,) = connection.execute("SELECT coalesce(max(trace_no), 0) FROM traces").fetchone()
    for trace_id in trace_ids:
        if trace_id not in traces:
            last += 1
            traces[trace_id] = _Trace(last, requested=False, is_new=True)
    return traces


def _write(
    connection: sqlite3.Connection,
    book_id: int,
    traces: Mapping[bytes, _Trace],
    requested: Set[bytes],
    at_s: int,
    scope: bytes,
) -> None:
    """Write the rows of new traces, and which are those of requests now."""
    new = [(trace.number, trace_id + scope, book_id, at_s) for trace_id, trace in traces.items() if trace.is_new]
    connection.executemany(
        "INSERT INTO traces VALUES (?, ?, ?, ?, ?, ?)",
        [(*values, int(values[1][:16] in requested), check_sum(*values)) for values in new],
    )
    connection.executemany(
        "UPDATE traces SET requested = 1 WHERE trace_no = ?",
        [
            (trace.number,)
            for trace_id, trace in traces.items()
            if trace_id in requested and not trace.is_new and not trace.requested
        ],
    )


def _store_spans(
    connection: sqlite3.Connection, traces: Mapping[bytes, _Trace], spans: Iterable[TraceSpan], now_ns: int
) -> list[int]:
    """Insert what is new; return when something is to be decided about it, for requests that are settled already."""
    fresh: list[tuple[object, ...]] = []
    late: dict[int, list[tuple[object, ...]]] = {}
    for span in spans:
        trace = traces[span.trace_id]
        entry = None if span.entry is None else int(span.entry)
        values = (trace.number, *span[1:4], entry, span.ended_ns, stored_amounts(span.amounts))
        row = (*values, check_sum(*values))
        if trace.requested:
            late.setdefault(trace.number, []).append(row)
        else:
            fresh.append(row)
    connection.executemany(_INSERT_SPAN, fresh)
    dues: list[int] = []
    for number, rows in late.items():
        if connection.executemany(_INSERT_SPAN, rows).rowcount:
            dues.extend(due_ns for (due_ns,) in connection.execute(_LATE, (now_ns, number)).fetchall())
    return dues


def _store_request(
    connection: sqlite3.Connection, names: Names, trace: _Trace, request: TraceRequest, due_ns: int, *, covered: bool
) -> bool:
    """Let a request wait; False if it is there already and nothing about it is to be decided anew."""
    record = request.record
    terms = record.terms
    meter_id = names.meter(connection, terms.account or "", terms.event_name)
    key = charge_key(meter_id, record.trace_id, record.span_id, record.ended_ns)
    place = (trace.number, record.span_id, meter_id)
    before = None if trace.is_new else connection.execute(_BEFORE, place).fetchone()
    if before is None:
        if connection.execute("SELECT 1 FROM records WHERE key = ?", (key,)).fetchone():
            return False  # it was billed by another policy, which did not have to wait
        state = RequestState.COVERED if covered else RequestState.WAITING
    else:
        state = RequestState(before[0])
        found_now = before[1] is not None and record.reason is None
        other = found_now or (json.loads(before[2]) != sorted(request.keys) and record.reason is None)
        if not other or not (state is RequestState.WAITING or _is_in_quarantine(connection, key)):
            return False
        state = RequestState.WAITING
        connection.execute("DELETE FROM trace_requests WHERE trace_no = ? AND span_id = ? AND meter_id = ?", place)
    values = (
        *place,
        names.book(connection),
        key,
        names.series(connection, meter_id, terms, record.user, record.payload),
        names.origin(connection, terms.policy, record.source),
        record.at_ns,
        None if record.reason is None else str(record.reason),
        json.dumps(record.seen),
        record.request_id,
        json.dumps(sorted(request.keys)),
        request.wait_ns,
    )
    connection.execute(_INSERT_REQUEST, (*values, check_sum(*values), state, due_ns))
    return True


def _is_in_quarantine(connection: sqlite3.Connection, key: bytes) -> bool:
    query = "SELECT 1 FROM quarantine WHERE key = ? AND resolved_at IS NULL"
    return connection.execute(query, (key,)).fetchone() is not None


def _undo(connection: sqlite3.Connection, key: bytes) -> None:
    """An inner span waits no more; what its charge was made of belongs to the outer one again."""
    trace_id, span_id = trace_of(key)
    meter_id = int.from_bytes(key[28:], "big")
    for number in numbers_of(connection, trace_id):
        if connection.execute(_UNDONE, (number, span_id, meter_id)).rowcount:
            connection.execute(
                "DELETE FROM trace_parts WHERE trace_no = ? AND meter_id = ? AND request = ? AND key = x''",
                (number, meter_id, span_id),
            )
