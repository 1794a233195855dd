"""When the wait for a request's spans is over: its quantity is summed, and it is filed like any other usage.

All that has to be decided about a trace at one moment is decided together, from all that is known of it:

- A request that waits is filed with its sum, or goes into quarantine: `no_user`, or `bad_quantity` if the sum is not
  known for certain. What of it stood in quarantine by itself is taken along.
- A request that is settled gets no other quantity any more. What came after that and counts is filed as usage of its
  own: the late span's charge, with the request's user and terms, at the late span's end. Only while the request
  stands in quarantine for `bad_quantity` is it summed anew, with what has come; if that is a quantity now, it is
  billed.
- What nobody can tell whose it is goes into quarantine without a user, once nothing of the trace waits any more. If a
  span comes that tells, it is billed as a late one, and leaves quarantine.

A request that is the same as another one (`request_ids`) has late spans that are the same, too: they are not billed.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_usageflow.extensions.sqlite_storage.flow import request_ids, trace_rows
from otel_usageflow.extensions.sqlite_storage.flow.commit import commit_usage
from otel_usageflow.extensions.sqlite_storage.flow.trace_rows import PartRow, RequestRow, RequestState
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.ledger.charge import charge_key
from otel_usageflow.ledger.ledger import TracesSettled
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.usage import Reason, TraceSpan, UsageBatch, UsageRecord
from otel_usageflow.policy.local_trace import LocalTrace, Part, Share, settled

WITH_ITS_REQUEST = "with its request"
"""What `quarantine.resolution` says of a span that became a part of a request's quantity."""

_DUE = """
SELECT DISTINCT trace_no FROM (
  SELECT trace_no FROM trace_requests WHERE book_id = ? AND due_ns <= ? ORDER BY due_ns LIMIT ?
)
"""
_USER_NOW = """
SELECT s.user, s.metadata_field, o.policy, o.source FROM records r
JOIN series s USING (series_id) JOIN origins o USING (origin_id) WHERE r.key = ? AND r.quantity IS NOT NULL
"""


class _Late(NamedTuple):
    """A span that is usage of its own."""

    record: UsageRecord
    part: PartRow


@dataclass(slots=True)
class _Decided:
    """What is to be written down about traces."""

    records: list[UsageRecord] = field(default_factory=list)
    parts: list[tuple[int, PartRow]] = field(default_factory=list)
    done: list[tuple[int, int, bytes, int]] = field(default_factory=list)
    """State, trace, span and meter of requests about which nothing is to be decided any more."""
    taken_along: list[bytes] = field(default_factory=list)
    """Charges of spans that are a part of their request's now."""
    late: int = 0
    unclaimed: int = 0


def settle_due(
    connection: sqlite3.Connection,
    names: Names,
    window: int,
    now: float,
    limit: int,
    indexed: trace_index.Indexed | None = None,
) -> TracesSettled:
    """Decide what is due of at most `limit` requests; `window` and `now` in seconds."""
    book_id, now_ns = names.book(connection), int(now * 1_000_000_000)
    numbers = [number for (number,) in connection.execute(_DUE, (book_id, now_ns, limit)).fetchall()]
    if not numbers:
        return TracesSettled(next_due=_next_due(connection, book_id))
    decided = _Decided()
    for number in numbers:
        _Deciding(connection, number, now_ns, decided).decide()
    committed = commit_usage(connection, names, UsageBatch(records=decided.records), window, now, indexed)
    trace_rows.write_parts(connection, decided.parts)
    connection.executemany(
        "UPDATE trace_requests SET due_ns = NULL, state = ? WHERE trace_no = ? AND span_id = ? AND meter_id = ?",
        decided.done,
    )
    connection.executemany(
        "UPDATE quarantine SET resolved_at = ?, resolution = ? WHERE key = ? AND resolved_at IS NULL",
        [(now, WITH_ITS_REQUEST, key) for key in decided.taken_along],
    )
    trace_index.outdate(connection, decided.taken_along)
    reached("traces: written")
    return TracesSettled(
        next_due=_next_due(connection, book_id),
        requests=len(decided.done),
        billed=committed.billed,
        late=max(decided.late, 0),
        unclaimed=decided.unclaimed,
    )


def mend_dues(connection: sqlite3.Connection, names: Names, now: float) -> None:
    """Nothing waits longer than its wait from now on, even if the clock was far ahead in an earlier life."""
    now_ns = int(now * 1_000_000_000)
    connection.execute(
        "UPDATE trace_requests SET due_ns = ?1 + wait_ns WHERE book_id = ?2 AND due_ns > ?1 + wait_ns",
        (now_ns, names.book(connection)),
    )


def _next_due(connection: sqlite3.Connection, book_id: int) -> float | None:
    query = "SELECT min(due_ns) FROM trace_requests WHERE book_id = ? AND due_ns IS NOT NULL"
    (due_ns,) = connection.execute(query, (book_id,)).fetchone()
    return None if due_ns is None else due_ns / 1_000_000_000


class _Deciding:
    """Decides about one trace at one moment."""

    def __init__(self, connection: sqlite3.Connection, number: int, now_ns: int, decided: _Decided) -> None:
        self._connection = connection
        self._number = number
        self._now_ns = now_ns
        self._decided = decided
        self._spans = {span.span_id: span for span in trace_rows.spans(connection, number)}
        self._trace = LocalTrace(self._spans.values())
        rows = trace_rows.requests(connection, number)
        self._requests = [row for row in rows if row.state is not RequestState.INNER]
        self._undone = {row.key for row in rows if row.state is RequestState.INNER}
        self._parts = {(row.meter_id, row.span_id): row for row in trace_rows.parts(connection, number)}

    def decide(self) -> None:
        """Add to what is decided."""
        due = [row for row in self._requests if row.due_ns is not None and row.due_ns <= self._now_ns]
        first = all(row.state is RequestState.WAITING for row in self._requests)
        anew = {row.key: self._is_decided_anew(row) for row in due}
        freed = [part for row in due for part in self._uncount(row, anew=anew[row.key])]
        if freed:  # what counts for one no more may be another's
            others = [row for row in self._requests if row not in due and row.state is not RequestState.WAITING]
            anew.update({row.key: self._is_decided_anew(row) for row in others})
            freed += [part for row in others for part in self._uncount(row, anew=anew[row.key])]
            due += others
        for row in due:
            if anew[row.key]:
                self._settle(row)
            else:
                self._add_late(row)
            state = RequestState.COVERED if row.state is RequestState.COVERED else RequestState.SETTLED
            self._decided.done.append((state, self._number, row.span_id, row.meter_id))
        self._decided.late -= sum(bool(part.key) for part in freed)
        waits = any(row.state is RequestState.WAITING and row not in due for row in self._requests)
        strays = [] if waits else self._strays()
        self._decided.records.extend(strays)
        if not waits:
            self._let_go(freed, strays)
        if first:
            told = {one.span_id for one in strays}
            nobodys = [one for one in self._trace.undecided if one.span_id not in told]
            self._decided.unclaimed += len(self._trace.background) + (0 if waits else len(nobodys))

    def _settle(self, row: RequestRow) -> None:
        """File a request with what it has."""
        share = self._trace.share(row.span_id, row.request.keys, self._counted(row.meter_id) | self._released(row))
        self._decided.records.append(settled(row.request, share))
        for span_id, parts in _by_span(share).items():
            self._count(PartRow(row.meter_id, span_id, row.span_id, b"", tuple(part.key for part in parts)))
            if span_id != row.span_id:
                self._decided.taken_along.append(self._key(row.meter_id, self._spans[span_id]))

    def _add_late(self, row: RequestRow) -> None:
        """File what came after a request was settled."""
        if request_ids.same_as(self._connection, row.key) is not None:
            return
        request = self._as_it_is_billed(row)
        share = self._trace.share(row.span_id, row.request.keys, self._counted(row.meter_id))
        for span_id, parts in _by_span(share).items():
            span = self._spans[span_id]
            quantity = Share(tuple(parts), found=True).quantity
            reason = Reason.NO_USER if request.user is None else Reason.BAD_QUANTITY if quantity is None else None
            self._decided.records.append(
                request._replace(
                    span_id=span_id,
                    ended_ns=span.ended_ns,
                    at_ns=min(span.ended_ns, self._now_ns),
                    quantity=quantity,
                    reason=reason,
                    request_id=b"",
                )
            )
            names = tuple(part.key for part in parts)
            self._count(PartRow(row.meter_id, span_id, row.span_id, self._key(row.meter_id, span), names))
            self._decided.late += 1

    def _strays(self) -> list[UsageRecord]:
        """What is nobody's for certain, for each meter."""
        found: list[UsageRecord] = []
        for meter_id in sorted({row.meter_id for row in self._requests}):
            asked = [row.request for row in self._requests if row.meter_id == meter_id]
            found.extend(self._trace.strays(asked, self._counted(meter_id)))
        return [one._replace(at_ns=min(one.at_ns, self._now_ns)) for one in found]

    def _count(self, part: PartRow) -> None:
        before = self._parts.get((part.meter_id, part.span_id))
        if before is not None:  # it counts already, under other attributes
            part = part._replace(key=part.key or before.key, names=tuple(sorted({*part.names, *before.names})))
        self._parts[part.meter_id, part.span_id] = part
        self._decided.parts.append((self._number, part))

    def _counted(self, meter_id: int) -> set[tuple[bytes, str]]:
        return {
            (part.span_id, name) for part in self._parts.values() if part.meter_id == meter_id for name in part.names
        }

    def _released(self, row: RequestRow) -> set[tuple[bytes, str]]:
        """What was billed by itself without being a part of anything: strays that somebody has released."""
        if not self._may_have_strays():
            return set()
        there = "SELECT 1 FROM records WHERE key = ?"
        return {
            (span.span_id, name)
            for span in self._spans.values()
            if span.amounts and span.span_id != row.span_id
            if (key := self._key(row.meter_id, span)) not in self._undone
            if self._connection.execute(there, (key,)).fetchone()
            for name in row.request.keys
        }

    def _may_have_strays(self) -> bool:
        """Whether anything ever was one: with one request nothing is."""
        return sum(span.entry is not False for span in self._spans.values()) > 1

    def _key(self, meter_id: int, span: TraceSpan) -> bytes:
        return charge_key(meter_id, span.trace_id, span.span_id, span.ended_ns)

    def _is_decided_anew(self, row: RequestRow) -> bool:
        """Whether a request gets its quantity now, instead of spans that are late for it."""
        return row.state is RequestState.WAITING or (row.state is RequestState.SETTLED and self._is_bad(row))

    def _is_bad(self, row: RequestRow) -> bool:
        """Whether a settled request stands in quarantine because its quantity is not known."""
        query = "SELECT reason FROM quarantine WHERE key = ? AND resolved_at IS NULL"
        found = self._connection.execute(query, (row.key,)).fetchone()
        return found is not None and found[0] == Reason.BAD_QUANTITY

    def _waits(self, part: PartRow, *reasons: Reason) -> bool:
        """Whether a late span stands in quarantine by itself, for one of these reasons if any are given."""
        query = "SELECT reason FROM quarantine WHERE key = ? AND resolved_at IS NULL"
        found = self._connection.execute(query, (part.key,)).fetchone()
        return found is not None and (not reasons or found[0] in reasons)

    def _uncount(self, row: RequestRow, *, anew: bool) -> list[PartRow]:
        """Count no more what has to be decided about once more: all of a request that gets its quantity now, but for
        what is billed by itself; of others what is late and in doubt, which may have a number now."""
        gone = [
            part
            for part in self._parts.values()
            if part.request == row.span_id and part.meter_id == row.meter_id
            if (anew and (not part.key or self._waits(part)))
            or (not anew and part.key and self._waits(part, Reason.BAD_QUANTITY))
        ]
        for part in gone:
            del self._parts[part.meter_id, part.span_id]
            self._connection.execute(
                "DELETE FROM trace_parts WHERE trace_no = ? AND meter_id = ? AND span_id = ?",
                (self._number, part.meter_id, part.span_id),
            )
        return gone

    def _let_go(self, freed: Iterable[PartRow], strays: Iterable[UsageRecord]) -> None:
        """What stood in quarantine by itself, and turns out to be told by what counts, leaves it."""
        asked = {(row.meter_id, row.span_id) for row in self._requests}
        if self._may_have_strays():
            keys = {
                (meter_id, span.span_id): self._key(meter_id, span)
                for meter_id in {row.meter_id for row in self._requests}
                for span in self._spans.values()
                if span.amounts
            }
        else:
            keys = {(part.meter_id, part.span_id): part.key for part in freed if part.key}
        stands = {(one.span_id, one.terms.event_name, one.terms.account) for one in strays}
        meters = {row.meter_id: row.request.record.terms for row in self._requests}
        for (meter_id, span_id), key in keys.items():
            terms = meters[meter_id]
            is_told = (meter_id, span_id) not in self._parts and (meter_id, span_id) not in asked
            if is_told and (span_id, terms.event_name, terms.account) not in stands:
                self._decided.taken_along.append(key)

    def _as_it_is_billed(self, row: RequestRow) -> UsageRecord:
        """The request's record, with the user under whom somebody released it, if somebody did."""
        record = row.request.record
        found = self._connection.execute(_USER_NOW, (row.key,)).fetchone()
        if record.user is not None or found is None or not found[0]:
            return record
        return record._replace(user=found[0], source=found[3] or None)


def _by_span(share: Share) -> dict[bytes, list[Part]]:
    found: dict[bytes, list[Part]] = {}
    for part in share.parts:
        found.setdefault(part.span_id, []).append(part)
    return found


def settle_everything(connection: sqlite3.Connection, books: Iterable[str], now: float) -> None:
    """Decide at once about all that waits, whatever it waits for: for a copy of a ledger, see `proof/copies.py`."""
    for book in books:
        names = Names(book)
        connection.execute(
            "UPDATE trace_requests SET due_ns = 0 WHERE book_id = ? AND due_ns IS NOT NULL", (names.book(connection),)
        )
        while settle_due(connection, names, 1, now, 1_000).next_due is not None:
            pass
