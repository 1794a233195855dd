"""Reading quarantine entry by entry, page by page: what is released or discarded is chosen here, and looked at again
in the transaction that changes it.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any

from otel_usageflow.extensions.sqlite_storage.correction import corrections
from otel_usageflow.extensions.sqlite_storage.quarantine import filters as quarantine_filters
from otel_usageflow.extensions.sqlite_storage.quarantine.filters import NAMES, Clause
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.correction import CorrectionState, effective
from otel_usageflow.ledger.quarantine import Entry, Filters, Kind
from otel_usageflow.model.usage import Reason

PAGE = 250
"""Entries in a step: a few tens of milliseconds, for which the service waits."""

_SECOND = 1_000_000_000
_REQUESTS = f"""
SELECT q.key, q.reason, q.at_ns, q.quantity, s.user FROM quarantine q JOIN origins o USING (origin_id) {NAMES}
WHERE {{where}} AND q.key > :after ORDER BY q.key LIMIT {PAGE}
"""
_WINDOWS = f"""
SELECT h.series_id, h.length, h.start, h.first_seq, h.reason, h.last_ns, h.requests, h.total, s.user, {{whole}}
FROM held_windows h {NAMES}
WHERE {{where}} AND (h.series_id, h.length, h.start, h.first_seq) > (:series, :length, :start, :first)
ORDER BY h.series_id, h.length, h.start, h.first_seq LIMIT {PAGE}
"""
_EVENTS = f"""
SELECT e.event_id, e.identifier, e.reason, coalesce(e.code, ''), e.timestamp, e.requests, e.value, {{whole}},
  e.parts = 1 AND (e.record_key IS NOT NULL OR EXISTS (SELECT 1 FROM windows w WHERE w.event_id = e.event_id)),
  EXISTS (SELECT 1 FROM adjustments c WHERE c.corrects = e.event_id)
FROM meter_events e JOIN accounts a USING (account_id)
WHERE {{where}} AND e.event_id > :after ORDER BY e.event_id LIMIT {PAGE}
"""


def pages(connection: sqlite3.Connection, filters: Filters) -> Iterator[list[Entry]]:
    """What fits the filters, at most `PAGE` entries of one kind at a time. Between two pages no reading is open."""
    yield from _requests(connection, quarantine_filters.requests(connection, filters))
    yield from _windows(connection, quarantine_filters.windows(connection, filters))
    yield from _events(connection, quarantine_filters.events(connection, filters))


def _requests(connection: sqlite3.Connection, clause: Clause) -> Iterator[list[Entry]]:
    after = b""
    while rows := _read(connection, _REQUESTS, clause, after=after):
        yield [
            Entry(
                Kind.REQUEST, key, "", Reason(reason), "", at_ns / _SECOND, 1,
                None if quantity is None else amount.restored(quantity), user, whole=True,
            )
            for key, reason, at_ns, quantity, user in rows
        ]  # fmt: skip
        after = rows[-1][0]


def _windows(connection: sqlite3.Connection, clause: Clause) -> Iterator[list[Entry]]:
    place = (-1, 0, 0, 0)
    while rows := _read(
        connection, _WINDOWS, clause, series=place[0], length=place[1], start=place[2], first=place[3]
    ):
        yield [
            Entry(
                Kind.WINDOW, (length, start, series_id, first_seq), "", Reason(reason), "", last_ns // _SECOND,
                requests, amount.restored(total), user, bool(whole),
            )
            for series_id, length, start, first_seq, reason, last_ns, requests, total, user, whole in rows
        ]  # fmt: skip
        place = rows[-1][:4]


def _events(connection: sqlite3.Connection, clause: Clause) -> Iterator[list[Entry]]:
    after = 0
    while rows := _read(connection, _EVENTS, clause, after=after):
        yield [
            Entry(
                Kind.EVENT, event_id, identifier, Reason(reason), code, timestamp, requests,
                amount.restored(value), "", bool(whole), bool(alone),
                *(_corrected(connection, event_id) if is_corrected else ()),
            )
            for event_id, identifier, reason, code, timestamp, requests, value, whole, alone, is_corrected in rows
        ]  # fmt: skip
        after = rows[-1][0]


def _read(connection: sqlite3.Connection, query: str, clause: Clause, **place: object) -> list[tuple[Any, ...]]:
    return connection.execute(
        query.format(where=clause.where, whole=clause.whole), {**clause.values, **place}
    ).fetchall()


def _corrected(connection: sqlite3.Connection, event_id: int) -> tuple[bool, bool]:
    """Whether corrections by people stand, and whether one of a comparison does; those by hand are not meant."""
    found = [one for one in corrections.about(connection, event_id) if one.state is not CorrectionState.BY_HAND]
    made_up = any(
        one.origin == "reconcile" and one.event_id is not None and effective(one.event_id, one.quantity, found) != 0
        for one in found
        if one.corrects == event_id
    )
    return effective(event_id, 0, found) != 0, made_up
