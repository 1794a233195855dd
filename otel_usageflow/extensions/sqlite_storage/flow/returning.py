"""Giving back: what a meter event covered that was certainly not counted waits again, for another event.

That is for refusals whose cause can disappear by itself, a missing customer or a missing meter.
"""

import sqlite3
from collections.abc import Sequence

from otel_usageflow.extensions.sqlite_storage.flow import daily, event_steps
from otel_usageflow.ledger.charge import MINUTE
from otel_usageflow.ledger.states import EventState, EventStep
from otel_usageflow.model.usage import Reason

RETURNABLE = (Reason.NO_CUSTOMER, Reason.NO_METER)
"""The reasons whose cause can disappear by itself."""


def give_back(connection: sqlite3.Connection, event_id: int, reason: Reason, now: float) -> bool:
    """Let what an event covered wait again, held for `reason`. The caller takes the event's own step.

    An amount that was split over several events is given back when the last of them was refused. False if nothing
    was given back: another part may be counted, or its window has changed since, so somebody must look.
    """
    record_key, part, parts = connection.execute(
        "SELECT record_key, part, parts FROM meter_events WHERE event_id = ?", (event_id,)
    ).fetchone()
    first = event_id - part
    others = connection.execute(
        "SELECT event_id, state, reason FROM meter_events WHERE event_id BETWEEN ? AND ? AND event_id != ?",
        (first, first + parts - 1, event_id),
    ).fetchall()
    if any(state != EventState.REFUSED or why not in RETURNABLE for _, state, why in others):
        return False
    if record_key is None:
        connection.execute(
            "INSERT INTO returned_windows SELECT event_id, length, start, series_id, first_seq, last_seq "
            "FROM windows WHERE event_id = ?",
            (first,),
        )
        _hold_again(connection, "event_id = ?", (first,), reason, now)
    elif not _return_record(connection, record_key, reason, now):
        return False
    for other, _, _ in others:
        event_steps.take(connection, other, EventStep.GIVE_BACK)
    return True


def _return_record(connection: sqlite3.Connection, key: bytes, reason: Reason, now: float) -> bool:
    """Add a record to what its window still has to bill; a window that is done with waits again.

    Its other records have events of their own, so only this one is put back. False if the window was summed
    since, which it can be when records stopped to be sent by themselves.
    """
    series_id, at_ns, seq, quantity = connection.execute(
        "SELECT series_id, at_ns, seq, quantity FROM records WHERE key = ?", (key,)
    ).fetchone()
    second = at_ns // 1_000_000_000
    which = "series_id = ? AND start <= ? AND start + length > ? AND start > ? AND ? BETWEEN first_seq AND last_seq"
    asked = (series_id, second, second, second - MINUTE, seq)
    more = "SET requests = requests + 1, total = exact_sum(total, ?)"
    done = f"SELECT start, series_id, requests FROM windows WHERE {which} AND event_id = -1"
    daily.count_nothing(connection, connection.execute(done, asked).fetchall(), -1)
    if connection.execute(f"UPDATE windows {more} WHERE {which} AND event_id = -1", (quantity, *asked)).rowcount:
        _hold_again(connection, f"{which} AND event_id = -1", asked, reason, now)
        return True
    return any(
        connection.execute(f"UPDATE {table} {more} WHERE {which}", (quantity, *asked)).rowcount
        for table in ("held_windows", "open_windows")
    )


def _hold_again(
    connection: sqlite3.Connection, which: str, asked: Sequence[object], reason: Reason, now: float
) -> None:
    columns = "length, start, series_id, first_seq, last_seq, requests, total, last_ns, last_value"
    connection.execute(
        f"INSERT INTO held_windows ({columns}, reason, held_at) SELECT {columns}, ?, ? FROM windows WHERE {which}",
        (reason, now, *asked),
    )
    connection.execute(f"DELETE FROM windows WHERE {which}", asked)
