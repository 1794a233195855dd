"""Releasing and discarding what is in quarantine: one step is one transaction, over entries that were read before.

Each entry is looked at again inside the transaction. One that was released, discarded or billed in the meantime is
left alone, so that two commands, or a command and the service, never do the same twice.
"""

import sqlite3
from collections.abc import Sequence

from otel_usageflow.extensions.sqlite_storage.flow import event_steps, windows
from otel_usageflow.extensions.sqlite_storage.flow.returning import give_back
from otel_usageflow.extensions.sqlite_storage.quarantine import decisions
from otel_usageflow.extensions.sqlite_storage.quarantine.decisions import Who
from otel_usageflow.extensions.sqlite_storage.quarantine.filing import NamesOf, file
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.ledger.charge import MINUTE
from otel_usageflow.ledger.quarantine import Decided, Entry, Kind, Way, discard_of, release_of
from otel_usageflow.ledger.states import EventState, EventStep
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.usage import Reason

_NO_QUANTITY_ROW = """
INSERT OR IGNORE INTO records SELECT key, series_id, origin_id, at_ns, NULL, (SELECT seq FROM ledger)
FROM quarantine WHERE key = ?
"""


def release(
    connection: sqlite3.Connection,
    names_of: NamesOf,
    entries: Sequence[Entry],
    decided: Decided,
    who: Who,
    now: float,
) -> list[Entry]:
    """Release what can be released; return that."""
    (pruned_to,) = connection.execute("SELECT pruned_to FROM ledger").fetchone()
    ways = [(entry, way) for entry in entries if isinstance(way := release_of(entry, decided, now, pruned_to), Way)]
    filed = set(file(connection, names_of, [_key(entry) for entry, way in ways if way is Way.FILE], decided, now))
    done = []
    for entry, way in ways:
        if way is Way.FILE:
            released = _key(entry) in filed
        elif not _is_still_there(connection, entry):
            released = False
        else:
            released = True
            if way is Way.REOPEN:
                windows.reopen_one(connection, _place(entry))
            elif not (way is Way.GIVE_BACK and _give_back(connection, _event(entry), now)):
                event_steps.resend(connection, _event(entry))
        if released:
            done.append(entry)
    if done:
        decisions.record(connection, decisions.RELEASED, who, done, now)
        reached("release: written")
    return done


def discard(connection: sqlite3.Connection, entries: Sequence[Entry], who: Who, now: float) -> list[Entry]:
    """Decide for good that entries are not billed; return those that it was done to.

    The charge of a discarded request is filed without a quantity, so that it is known when its span comes again.
    """
    done = []
    for entry in entries:
        if discard_of(entry) is not None or not _is_still_there(connection, entry):
            continue
        if entry.kind is Kind.REQUEST:
            key = _key(entry)
            connection.execute(_NO_QUANTITY_ROW, (key,))
            trace_index.outdate(connection, [key])
            connection.execute(
                "UPDATE quarantine SET resolved_at = ?, resolution = 'discarded' WHERE key = ?", (now, key)
            )
        elif entry.kind is Kind.WINDOW:
            windows.discard_one(connection, _place(entry))
        else:
            event_steps.take(connection, _event(entry), EventStep.DISCARD)
            connection.execute(
                "UPDATE meter_events SET settled_at = ?, message = ? WHERE event_id = ?",
                (now, f"discarded by {who.actor}: {who.why}", _event(entry)),
            )
        done.append(entry)
    if done:
        decisions.record(connection, decisions.DISCARDED, who, done, now)
        reached("discard: written")
    return done


def _is_still_there(connection: sqlite3.Connection, entry: Entry) -> bool:
    if entry.kind is Kind.REQUEST:
        query = "SELECT 1 FROM quarantine WHERE key = ? AND reason = ? AND resolved_at IS NULL"
        asked: tuple[object, ...] = (entry.place, entry.reason)
    elif entry.kind is Kind.WINDOW:
        query = (
            "SELECT 1 FROM held_windows WHERE length = ? AND start = ? AND series_id = ? AND first_seq = ? "
            "AND reason = ? AND requests = ?"
        )
        asked = (*_place(entry), entry.reason, entry.requests)
    else:
        query = "SELECT 1 FROM meter_events WHERE event_id = ? AND identifier = ? AND state = ?"
        asked = (entry.place, entry.identifier, EventState.REFUSED)
    return connection.execute(query, asked).fetchone() is not None


def _give_back(connection: sqlite3.Connection, event_id: int, now: float) -> bool:
    """Let what an event covered be decided about again at once; False if that cannot be."""
    if not give_back(connection, event_id, Reason.NO_CUSTOMER, now):
        return False
    event_steps.take(connection, event_id, EventStep.GIVE_BACK)
    for place in _given_back(connection, event_id):
        windows.reopen_one(connection, place)
    return True


def _given_back(connection: sqlite3.Connection, event_id: int) -> list[tuple[int, int, int, int]]:
    (key,) = connection.execute("SELECT record_key FROM meter_events WHERE event_id = ?", (event_id,)).fetchone()
    if key is None:
        return connection.execute(
            "SELECT length, start, series_id, first_seq FROM returned_windows WHERE event_id = ?", (event_id,)
        ).fetchall()
    series_id, at_ns, seq = connection.execute(
        "SELECT series_id, at_ns, seq FROM records WHERE key = ?", (key,)
    ).fetchone()
    second = at_ns // 1_000_000_000
    return connection.execute(
        """SELECT length, start, series_id, first_seq FROM held_windows
           WHERE series_id = ? AND start BETWEEN ? AND ? AND start + length > ?
             AND ? BETWEEN first_seq AND last_seq""",
        (series_id, second - MINUTE + 1, second, second, seq),
    ).fetchall()


def _key(entry: Entry) -> bytes:
    assert isinstance(entry.place, bytes)
    return entry.place


def _place(entry: Entry) -> tuple[int, int, int, int]:
    assert isinstance(entry.place, tuple)
    return entry.place


def _event(entry: Entry) -> int:
    assert isinstance(entry.place, int)
    return entry.place
