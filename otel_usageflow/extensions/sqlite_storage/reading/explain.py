"""Reading the ledger along one request: span, policy, user, window, meter event, answer; and the same backwards."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from otel_usageflow.extensions.sqlite_storage.doubt.verdicts import event_named
from otel_usageflow.extensions.sqlite_storage.flow import request_ids
from otel_usageflow.extensions.sqlite_storage.flow.windows import DISCARDED
from otel_usageflow.extensions.sqlite_storage.quarantine.decisions import (
    Subject,
    about,
    event_subject,
    window_subject,
)
from otel_usageflow.extensions.sqlite_storage.reading import story, trace_index, trace_told
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import MINUTE, first_key, trace_of, window_start
from otel_usageflow.ledger.explanation import (
    ExplainedDecision,
    ExplainedEvent,
    ExplainedRequest,
    ExplainedUsage,
    ExplainedWindow,
)
from otel_usageflow.ledger.identifier import of_idempotency_key, place_of
from otel_usageflow.ledger.report import STANDING_OF_EVENT, Standing
from otel_usageflow.ledger.states import EventState

_NAMES = """JOIN origins o USING (origin_id) JOIN series s USING (series_id) JOIN meters m USING (meter_id)
            JOIN accounts a USING (account_id)"""
_WHO = "o.policy, a.account, m.event_name, o.source, s.user, s.metadata_field"

_EVENT = """SELECT e.event_id, e.identifier, a.account, e.event_name, e.customer, e.value, e.timestamp, e.state,
                   e.requests, e.attempts, e.frozen_at, e.first_attempt_at, e.settled_at, e.duplicate, e.reason,
                   e.code, e.message, e.request_id
            FROM meter_events e JOIN accounts a USING (account_id) WHERE """

_SECOND = 1_000_000_000


def explain_trace(connection: sqlite3.Connection, trace_id: bytes) -> list[ExplainedUsage]:
    """Everything that the ledger knows of a trace, in the order of time."""
    keys = trace_index.find(connection, trace_id)
    record = f"SELECT r.key, r.at_ns, r.quantity, r.seq, r.series_id, {_WHO} FROM records r {_NAMES} WHERE r.key = ?"
    kept = f"""SELECT q.key, q.at_ns, q.quantity, q.reason, q.seen, q.resolution, {_WHO} FROM quarantine q {_NAMES}
               WHERE q.key = ? AND (q.resolved_at IS NULL OR q.resolution = 'discarded')"""
    found = []
    for key in keys:
        aside = connection.execute(kept, (key,)).fetchall()
        here = [_explain_quarantined(connection, row) for row in aside]
        # What was discarded or refiled leaves a record without a quantity, which is told elsewhere.
        if not aside and not connection.execute("SELECT 1 FROM refiled WHERE key = ?", (key,)).fetchone():
            here = [_explain_record(connection, row) for row in connection.execute(record, (key,)).fetchall()]
        found += [trace_told.with_parts(connection, one, key) for one in here]
    found += trace_told.waiting(connection, trace_id)
    return sorted(found, key=lambda usage: (usage.ended_at, usage.span_id, usage.event_name))


def explain_event(
    connection: sqlite3.Connection, identifier: str
) -> tuple[ExplainedEvent, list[ExplainedRequest]] | None:
    """A meter event and the requests that it is made of, in the order of time; also by an identifier that it had."""
    identifier = of_idempotency_key(identifier)
    event_id = event_named(connection, identifier)
    if event_id is None and place_of(identifier) == (None, None):  # as older versions made them
        row = connection.execute(_EVENT + "e.identifier = ?", (identifier,)).fetchone()
    else:
        row = connection.execute(_EVENT + "e.event_id = ?", (event_id,)).fetchone()
    if row is None:
        return None
    return _event(connection, row), sorted(_requests(connection, row[0]), key=lambda r: (r.ended_at, r.span_id))


def _explain_record(connection: sqlite3.Connection, row: tuple[object, ...]) -> ExplainedUsage:
    key, at_ns, quantity, seq, series_id, *who = row
    assert isinstance(key, bytes)
    assert isinstance(at_ns, int)
    place = _place(connection, key, at_ns, seq, series_id)
    standing: Standing
    reason: str | None
    counts_for_it = request_ids.same_as(connection, key) if quantity is None else None
    if counts_for_it is not None:
        standing, reason = Standing.SAME_REQUEST, None
    elif quantity is None:
        standing, reason = Standing.NESTED, None
    elif place.held is not None:
        standing, reason = Standing.QUARANTINED, place.held
    elif place.event is not None:
        standing, reason = STANDING_OF_EVENT[EventState[place.event.state.upper()]], place.event.reason
    elif place.discarded:
        standing, reason = Standing.DISCARDED, None
    elif quantity == 0 and (place.window is None or place.window.quantity == 0):
        standing, reason = Standing.BILLED, None
    else:
        standing, reason = Standing.COLLECTING, None
    told = _decisions(connection, key, *place.subjects)
    left = connection.execute("SELECT reason, resolution FROM quarantine WHERE key = ?", (key,)).fetchone()
    return replace(
        _usage(key, at_ns, quantity, who, standing, reason, (), place.window, place.event, told),
        earlier_events=story.earlier_events(connection, key, place.key),
        resolution=None if left is None else f"{left[0]}: {left[1]}",
        same_as=None if counts_for_it is None else _hexes(counts_for_it),
    )


def _hexes(key: bytes) -> tuple[str, str]:
    trace_id, span_id = trace_of(key)
    return trace_id.hex(), span_id.hex()


def _explain_quarantined(connection: sqlite3.Connection, row: tuple[object, ...]) -> ExplainedUsage:
    key, at_ns, quantity, reason, seen, resolution, *who = row
    assert isinstance(key, bytes)
    assert isinstance(at_ns, int)
    assert isinstance(seen, str)
    names = tuple(json.loads(seen))
    standing = Standing.QUARANTINED if resolution is None else Standing.DISCARDED
    told = _decisions(connection, key)
    return _usage(key, at_ns, quantity, who, standing, str(reason), names, None, None, told)


def _decisions(connection: sqlite3.Connection, *subjects: Subject) -> tuple[ExplainedDecision, ...]:
    """What was decided about a request, its window or its event while it could not be billed."""
    return tuple(
        ExplainedDecision(entry.at, entry.actor, entry.action, entry.why, entry.entry)
        for entry in about(connection, subjects)
    )


def _usage(
    key: bytes,
    at_ns: int,
    quantity: object,
    who: list[object],
    standing: Standing,
    reason: str | None,
    seen: tuple[str, ...],
    window: ExplainedWindow | None,
    event: ExplainedEvent | None,
    decisions: tuple[ExplainedDecision, ...],
) -> ExplainedUsage:
    policy, account, event_name, source, user, field = (str(one) for one in who)
    trace_id, span_id = trace_of(key)
    return ExplainedUsage(
        trace_id=trace_id.hex(),
        span_id=span_id.hex(),
        policy=policy,
        account=account,
        event_name=event_name,
        source=source or None,
        user=user or None,
        metadata_field=field or None,
        quantity=amount.restored(quantity) if isinstance(quantity, int | str) else None,
        ended_at=at_ns / _SECOND,
        standing=standing,
        reason=reason,
        seen=seen,
        window=window,
        event=event,
        decisions=decisions,
    )


class _Place(NamedTuple):
    """Where a record stands."""

    window: ExplainedWindow | None = None
    event: ExplainedEvent | None = None
    held: str | None = None
    """The reason, if its window is held."""
    discarded: bool = False
    key: tuple[object, ...] | None = None
    """Length, start, series and first commit of its window."""
    subjects: tuple[Subject, ...] = ()
    """Its window and its event, as decisions call them."""


def _place(connection: sqlite3.Connection, key: bytes, at_ns: int, seq: object, series_id: object) -> _Place:
    row = connection.execute(
        _EVENT + "e.record_key = ? AND e.state != ? ORDER BY e.event_id", (key, EventState.RETURNED)
    ).fetchone()
    own = None if row is None else _event(connection, row)
    subjects: tuple[Subject, ...] = () if row is None else (event_subject(row[0]),)
    for length in range(1, MINUTE + 1):
        place = (length, window_start(at_ns, length), series_id, seq)
        where = "length = ? AND start = ? AND series_id = ? AND ? BETWEEN first_seq AND last_seq"
        for table, last in (("held_windows", "reason"), ("open_windows", "NULL"), ("windows", "event_id")):
            row = connection.execute(
                f"SELECT start, length, requests, total, first_seq, series_id, {last} FROM {table} WHERE {where}",
                place,
            ).fetchone()
            if row is None:
                continue
            window = ExplainedWindow(row[0], row[1], row[2], amount.restored(row[3]))
            where_it_is = (row[1], row[0], row[5], row[4])
            subjects += (window_subject(*where_it_is),)
            if table == "held_windows" and own is None:
                return _Place(window, key=where_it_is, held=str(row[6]), subjects=subjects)
            if table == "windows" and row[6] > 0:
                event = connection.execute(_EVENT + "e.event_id = ?", (row[6],)).fetchone()
                subjects += (event_subject(row[6]),)
                return _Place(window, _event(connection, event), key=where_it_is, subjects=subjects)
            discarded = table == "windows" and row[6] == DISCARDED
            return _Place(window, own, key=where_it_is, discarded=discarded, subjects=subjects)
    return _Place(event=own, subjects=subjects)


def _event(connection: sqlite3.Connection, row: tuple[object, ...]) -> ExplainedEvent:
    event_id, *values = row
    assert isinstance(event_id, int)
    state = EventState(int(str(values[6])))
    values[6] = state.name.lower()
    values[12] = bool(values[12])
    return replace(
        ExplainedEvent(*values),  # type: ignore[arg-type]
        earlier=story.earlier_answers(connection, event_id),
        corrections=story.corrections_of(connection, event_id),
        followed_by=story.later_events(connection, event_id) if state is EventState.RETURNED else (),
        correction=story.correction_told(connection, event_id),
    )


def _requests(connection: sqlite3.Connection, event_id: int) -> Iterator[ExplainedRequest]:
    columns = "r.key, o.policy, s.user, r.quantity, r.at_ns"
    (key,) = connection.execute("SELECT record_key FROM meter_events WHERE event_id = ?", (event_id,)).fetchone()
    if key is not None:
        rows = connection.execute(f"SELECT {columns} FROM records r {_NAMES} WHERE r.key = ?", (key,)).fetchall()
        yield from map(_request, rows)
        return
    columns_of = "SELECT start, length, series_id, first_seq, last_seq FROM"
    windows = connection.execute(
        f"{columns_of} windows WHERE event_id = ?1 UNION ALL {columns_of} returned_windows WHERE event_id = ?1",
        (event_id,),
    ).fetchall()
    for start, length, series_id, first_seq, last_seq in windows:
        rows = connection.execute(
            f"""SELECT {columns} FROM records r {_NAMES}
                WHERE (r.key >= ? AND r.key < ?
                       OR r.key IN (SELECT key FROM stray_records WHERE at_s >= ? AND at_s < ?))
                  AND r.series_id = ? AND r.seq BETWEEN ? AND ? AND r.quantity IS NOT NULL
                  AND r.at_ns >= ? AND r.at_ns < ?""",
            (
                first_key(start),
                first_key(start + length),
                start,
                start + length,
                series_id,
                first_seq,
                last_seq,
                start * _SECOND,
                (start + length) * _SECOND,
            ),
        ).fetchall()
        yield from map(_request, rows)


def _request(row: tuple[object, ...]) -> ExplainedRequest:
    key, policy, user, quantity, at_ns = row
    assert isinstance(key, bytes)
    assert isinstance(at_ns, int)
    assert isinstance(quantity, int | str)
    trace_id, span_id = trace_of(key)
    return ExplainedRequest(
        trace_id.hex(), span_id.hex(), str(policy), str(user), amount.restored(quantity), at_ns / _SECOND
    )
