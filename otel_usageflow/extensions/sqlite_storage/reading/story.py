"""What else is known of a meter event: answers before the last one, what became of what it gave back, corrections."""

import sqlite3

from otel_usageflow.extensions.sqlite_storage.correction import corrections
from otel_usageflow.ledger.correction import Correction
from otel_usageflow.ledger.explanation import EarlierAnswer, ExplainedCorrection
from otel_usageflow.ledger.states import EventState

_PLACE = "length = ? AND start = ? AND series_id = ? AND first_seq = ?"


def earlier_answers(connection: sqlite3.Connection, event_id: int) -> tuple[EarlierAnswer, ...]:
    """The answers that an event had, and the identifiers that it had them under, oldest first."""
    rows = connection.execute(
        "SELECT identifier, state, attempts, first_attempt_at, settled_at, duplicate, reason, code, message, "
        "request_id FROM answers WHERE event_id = ? ORDER BY number",
        (event_id,),
    )
    return tuple(
        EarlierAnswer(name, EventState(state).name.lower(), attempts, first, at, bool(duplicate), *told)
        for name, state, attempts, first, at, duplicate, *told in rows.fetchall()
    )


def corrections_of(connection: sqlite3.Connection, event_id: int) -> tuple[ExplainedCorrection, ...]:
    """What was asked for to correct an event, oldest first."""
    return tuple(map(_correction, corrections.about(connection, event_id)))


def correction_told(connection: sqlite3.Connection, event_id: int) -> ExplainedCorrection | None:
    """The correction that an event tells Stripe, if it is the event of one."""
    row = connection.execute("SELECT adjustment_id FROM adjustments WHERE event_id = ?", (event_id,)).fetchone()
    return None if row is None else _correction(corrections.listed(connection, [row[0]])[0])


def _correction(one: Correction) -> ExplainedCorrection:
    corrected = None if one.corrected is None else one.corrected.identifier
    return ExplainedCorrection(one.number, one.quantity, str(one.state), one.asked_at, one.actor, one.why, corrected)


def later_events(connection: sqlite3.Connection, event_id: int) -> tuple[str, ...]:
    """The identifiers of the events that bill now what an event gave back."""
    (key,) = connection.execute("SELECT record_key FROM meter_events WHERE event_id = ?", (event_id,)).fetchone()
    if key is not None:
        rows = connection.execute(
            "SELECT identifier FROM meter_events WHERE record_key = ? AND event_id > ? ORDER BY event_id",
            (key, event_id),
        )
        return tuple(name for (name,) in rows)
    rows = connection.execute(
        "SELECT DISTINCT e.identifier FROM returned_windows r "
        "JOIN windows w USING (length, start, series_id, first_seq) JOIN meter_events e ON e.event_id = w.event_id "
        "WHERE r.event_id = ? ORDER BY e.event_id",
        (event_id,),
    )
    return tuple(name for (name,) in rows)


def earlier_events(connection: sqlite3.Connection, key: bytes, place: tuple[object, ...] | None) -> tuple[str, ...]:
    """The identifiers of the events that had covered a record, or its window, and gave it back."""
    found = connection.execute(
        "SELECT event_id, identifier FROM meter_events WHERE record_key = ? AND state = ?", (key, EventState.RETURNED)
    ).fetchall()
    if place is not None:
        found += connection.execute(
            "SELECT e.event_id, e.identifier FROM returned_windows JOIN meter_events e USING (event_id) "
            f"WHERE {_PLACE}",
            place,
        ).fetchall()
    return tuple(name for _, name in sorted(set(found)))
