"""The rows behind quantities that are summed over a trace, as the rest of the ledger sees them."""

import json
import sqlite3
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, NamedTuple
from zlib import crc32

from otel_usageflow.extensions.sqlite_storage.names import SCOPE
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import trace_of
from otel_usageflow.ledger.ledger import WaitingTraces
from otel_usageflow.model.usage import Quantity, Reason, Terms, TraceRequest, TraceSpan, UsageRecord


class RequestState(IntEnum):
    """Where a request stands whose quantity is summed over its trace."""

    WAITING = 0
    """Spans of its trace are waited for; it has no charge yet."""
    SETTLED = 1
    """It has its charge, or is in quarantine; spans that come now are usage of their own."""
    COVERED = 2
    """An inner span of it was billed before anybody knew that it is one: what else it has is usage of its own."""
    INNER = 3
    """It is the inner span of a request, and is not billed."""


class RequestRow(NamedTuple):
    """A row of `trace_requests`."""

    request: TraceRequest
    """As it was handed in; the second of its end is all that is known of that."""
    key: bytes
    meter_id: int
    state: RequestState
    due_ns: int | None

    @property
    def span_id(self) -> bytes:
        """The request's own span."""
        return self.request.record.span_id


class PartRow(NamedTuple):
    """A row of `trace_parts`: a span that counts."""

    meter_id: int
    span_id: bytes
    request: bytes
    """The span of the request that it belonged to when it was counted."""
    key: bytes
    """Its own charge, or empty if it is a part of the request's."""
    names: tuple[str, ...]
    """The attributes under which it counts, sorted."""


CHECKED = {
    "traces": ("trace_no", "trace_id", "book_id", "at_s"),
    "trace_spans": ("trace_no", "span_id", "parent", "service", "entry", "ended_ns", "amounts"),
    "trace_requests": (
        *("trace_no", "span_id", "meter_id", "book_id", "key", "series_id", "origin_id", "at_ns", "reason", "seen"),
        *("request_id", "names", "wait_ns"),
    ),
    "trace_parts": ("trace_no", "meter_id", "span_id", "request", "key", "names"),
}
"""What `check_sum` is over, in each table."""


def check_sum(*values: object) -> int:
    """Of the values of a row, as they are stored."""
    return crc32(repr(values).encode(errors="surrogateescape"))


_REQUESTS = """
SELECT t.span_id, t.key, t.meter_id, t.state, t.due_ns, t.at_ns, t.reason, t.seen, t.request_id, t.names, t.wait_ns,
  o.policy, o.source, s.user, s.metadata_field, s.payload, m.event_name, a.account
FROM trace_requests t JOIN origins o USING (origin_id) JOIN series s USING (series_id)
JOIN meters m ON m.meter_id = t.meter_id JOIN accounts a USING (account_id)
WHERE t.trace_no = ? ORDER BY t.span_id, t.meter_id
"""


def waiting(connection: sqlite3.Connection, book: str) -> WaitingTraces:
    """The requests of a book that wait."""
    requests, oldest_ns = connection.execute(
        "SELECT count(*), min(at_ns) FROM trace_requests WHERE book_id = (SELECT book_id FROM books WHERE book = ?) "
        "AND due_ns IS NOT NULL AND state = ?",
        (book, RequestState.WAITING),
    ).fetchone()
    return WaitingTraces(requests, None if oldest_ns is None else oldest_ns / 1_000_000_000)


def bounds(trace_id: bytes) -> tuple[bytes, bytes]:
    """Between these is what `traces.trace_id` holds for a trace: it, with any company's scope behind it."""
    return trace_id, trace_id + b"\xff" * SCOPE


def numbers_of(connection: sqlite3.Connection, trace_id: bytes) -> list[int]:
    """The numbers of a trace, one for each book, and each company's scope, that has something of it."""
    rows = connection.execute(
        "SELECT trace_no FROM traces WHERE trace_id >= ? AND trace_id <= ? ORDER BY book_id, trace_id",
        bounds(trace_id),
    )
    return [number for (number,) in rows]


def spans(connection: sqlite3.Connection, trace_no: int) -> list[TraceSpan]:
    """All spans of a trace, sorted by id."""
    (trace_id,) = connection.execute("SELECT trace_id FROM traces WHERE trace_no = ?", (trace_no,)).fetchone()
    rows = connection.execute(
        "SELECT span_id, parent, service, entry, ended_ns, amounts FROM trace_spans WHERE trace_no = ? ORDER BY 1",
        (trace_no,),
    )
    return [
        TraceSpan(
            trace_id[:16], span_id, parent, service, None if entry is None else bool(entry), ended_ns, _amounts(text)
        )
        for span_id, parent, service, entry, ended_ns, text in rows
    ]


def requests(connection: sqlite3.Connection, trace_no: int) -> list[RequestRow]:
    """All requests of a trace whose quantity is summed over it, sorted by span and meter."""
    return [_request(row) for row in connection.execute(_REQUESTS, (trace_no,)).fetchall()]


def parts(connection: sqlite3.Connection, trace_no: int) -> list[PartRow]:
    """What counts of a trace, sorted by meter and span."""
    rows = connection.execute(
        "SELECT meter_id, span_id, request, key, names FROM trace_parts WHERE trace_no = ? ORDER BY 1, 2", (trace_no,)
    )
    return [
        PartRow(meter, span_id, request, key, tuple(json.loads(names)))
        for meter, span_id, request, key, names in rows
    ]


def write_parts(connection: sqlite3.Connection, rows: Iterable[tuple[int, PartRow]]) -> None:
    """Write down what counts, each with the number of its trace, in place of what stood there of the span."""
    values = [
        (number, row.meter_id, row.span_id, row.request, row.key, json.dumps(row.names)) for number, row in rows
    ]
    connection.executemany(
        "INSERT OR REPLACE INTO trace_parts VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(*one, check_sum(*one)) for one in values],
    )


def stored_amounts(amounts: Iterable[tuple[str, Quantity | None]]) -> str:
    """What a span holds, as it is kept: JSON, or empty."""
    held = {key: None if value is None else amount.stored(value) for key, value in amounts}
    return json.dumps(held) if held else ""


def _amounts(text: str) -> tuple[tuple[str, Quantity | None], ...]:
    if not text:
        return ()
    held = json.loads(text)
    return tuple((key, None if value is None else amount.restored(value)) for key, value in sorted(held.items()))


def _request(row: tuple[Any, ...]) -> RequestRow:
    (span_id, key, meter_id, state, due_ns, at_ns, reason, seen, request_id, names, wait_ns) = row[:11]
    policy, source, user, field, payload, event_name, account = row[11:]
    record = UsageRecord(
        trace_id=trace_of(key)[0],
        span_id=span_id,
        ended_ns=int.from_bytes(key[:4], "big") * 1_000_000_000,
        at_ns=at_ns,
        terms=Terms(policy, event_name, field or None, account or None, None),
        user=user or None,
        source=source or None,
        quantity=None,
        payload=tuple(sorted(json.loads(payload).items())) if payload else (),
        reason=None if reason is None else Reason(reason),
        seen=tuple(json.loads(seen)),
        request_id=request_id,
    )
    request = TraceRequest(record, tuple(json.loads(names)), wait_ns)
    return RequestRow(request, key, meter_id, RequestState(state), due_ns)
