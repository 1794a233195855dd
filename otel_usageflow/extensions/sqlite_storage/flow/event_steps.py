"""A meter event takes a step: the one place where its state changes, always by the table of states.

An event that has an answer and goes on leaves that answer behind in `answers`: nothing that Stripe said is ever
overwritten.
"""

import json
import sqlite3
from collections.abc import Sequence

from otel_usageflow.extensions.sqlite_storage.flow import daily
from otel_usageflow.ledger.identifier import resend_identifier
from otel_usageflow.ledger.states import EVENT_STEPS, EventState, EventStep, step

_ANSWERED = (EventState.ACCEPTED, EventState.REFUSED, EventState.UNKNOWN)

_BEFORE_BEGIN = ", ".join(str(int(state)) for state, what in EVENT_STEPS if what is EventStep.BEGIN)

_KEEP_ANSWER = """
INSERT INTO answers
SELECT event_id, (SELECT count(*) + 1 FROM answers a WHERE a.event_id = e.event_id), identifier, state, attempts,
       first_attempt_at, settled_at, duplicate, reason, code, message, request_id
FROM meter_events e WHERE event_id = ?
"""
_IDENTIFIERS = """
WITH related AS (SELECT event_id, identifier FROM meter_events WHERE event_id = :event
                 UNION SELECT event_id, identifier FROM meter_events WHERE record_key = :key)
SELECT count(*) FROM (SELECT identifier FROM related WHERE identifier != ''
                      UNION SELECT identifier FROM answers WHERE event_id IN (SELECT event_id FROM related))
"""


def take(connection: sqlite3.Connection, event_id: int, what: EventStep) -> EventState:
    """Take a step; return the state before it.

    Raises:
        IllegalStep: the table of states has no such step.
    """
    (number,) = connection.execute("SELECT state FROM meter_events WHERE event_id = ?", (event_id,)).fetchone()
    before = EventState(number)
    after = step(before, what)
    if before in _ANSWERED:
        connection.execute(_KEEP_ANSWER, (event_id,))
    if before is EventState.ACCEPTED:
        daily.leaves(connection, event_id)
    connection.execute("UPDATE meter_events SET state = ? WHERE event_id = ?", (after, event_id))
    if after is EventState.ACCEPTED:
        daily.entered(connection, event_id)
    return before


def begin(connection: sqlite3.Connection, event_ids: Sequence[int], now: float, batch: int) -> None:
    """An attempt at each of these events begins: one statement for all, because it is what is done most.

    Raises:
        IllegalStep: one of them cannot begin.
    """
    taken = connection.execute(
        f"""UPDATE meter_events SET state = ?, attempts = attempts + 1, batch = ?,
            first_attempt_at = coalesce(first_attempt_at, ?)
            WHERE event_id IN (SELECT value FROM json_each(?)) AND state IN ({_BEFORE_BEGIN})""",
        (EventState.SENDING, batch, now, json.dumps(event_ids)),
    ).rowcount
    if taken < len(event_ids):
        for event_id in event_ids:  # says which, and why
            take(connection, event_id, EventStep.BEGIN)


def resend(connection: sqlite3.Connection, event_id: int) -> str:
    """Let an event that was certainly not counted be sent again; return the identifier that it now has.

    The identifier is derived from the old one, because Stripe may keep that reserved.
    """
    take(connection, event_id, EventStep.RESEND)
    name, key = connection.execute(
        "SELECT identifier, record_key FROM meter_events WHERE event_id = ?", (event_id,)
    ).fetchone()
    name = resend_identifier(name, identifiers_so_far(connection, event_id, key))
    connection.execute(
        """UPDATE meter_events SET identifier = ?, idempotency_key = ?, uncertain = 0, attempts = 0,
           first_attempt_at = NULL, settled_at = NULL, duplicate = 0, reason = NULL, code = NULL, message = NULL,
           request_id = NULL, batch = 0 WHERE event_id = ?""",
        (name, name, event_id),
    )
    connection.execute("INSERT OR IGNORE INTO released_events VALUES (?)", (event_id,))
    return name


def identifiers_so_far(connection: sqlite3.Connection, event_id: int, record_key: bytes | None) -> int:
    """How many identifiers an event, or all events of its record, have had: the number of the next resend."""
    (count,) = connection.execute(_IDENTIFIERS, {"event": event_id, "key": record_key}).fetchone()
    return int(count)
