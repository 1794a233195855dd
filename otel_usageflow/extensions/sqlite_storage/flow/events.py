"""Meter events: written once, sent unchanged, and settled. Every change of state goes through the table of states."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from otel_usageflow.extensions.sqlite_storage.flow import event_steps
from otel_usageflow.extensions.sqlite_storage.flow.returning import RETURNABLE, give_back
from otel_usageflow.ledger.freeze import Draft
from otel_usageflow.ledger.identifier import identifier, next_idempotency_key, resend_identifier
from otel_usageflow.ledger.states import EventState, EventStep
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Halted, Outcome, Refused, Retry

_COLUMNS = """
SELECT e.event_id, a.account, e.event_name, e.customer, e.value, e.timestamp, e.identifier, e.idempotency_key,
       e.payload, e.attempts, e.first_attempt_at, e.uncertain OR e.state = 1, e.batch
"""
_UNSETTLED = f"""{_COLUMNS} FROM meter_events e JOIN accounts a USING (account_id)
WHERE e.state IN (0, 1) AND e.event_id > ? AND a.book = ? ORDER BY e.event_id LIMIT ?"""
# The few that were released come first: looking for them among a million unsettled events takes a second.
_RELEASED = f"""{_COLUMNS} FROM released_events CROSS JOIN meter_events e USING (event_id)
JOIN accounts a USING (account_id) WHERE e.state IN (0, 1) AND a.book = ? ORDER BY e.event_id LIMIT ?"""


def write(connection: sqlite3.Connection, book: str, draft: Draft, now: float) -> MeterEvent:
    """Write a meter event down. From here on nothing of it changes but its state."""
    account, event_name, customer = draft.lane
    (event_id,) = connection.execute(
        """
        INSERT INTO meter_events (account_id, event_name, customer, payload, value, timestamp, identifier,
                                  idempotency_key, record_key, requests, part, parts, state, frozen_at)
        VALUES ((SELECT account_id FROM accounts WHERE book = ? AND account = ?),
                ?, ?, ?, ?, ?, '', '', ?, ?, ?, ?, ?, ?)
        RETURNING event_id
        """,
        (
            book,
            account,
            event_name,
            customer,
            draft.payload,
            draft.value,
            draft.timestamp,
            draft.record_key,
            draft.requests,
            draft.part,
            draft.parts,
            EventState.FROZEN,
            now,
        ),
    ).fetchone()
    (ledger_id,) = connection.execute("SELECT ledger_id FROM ledger").fetchone()
    name = _unused_identifier(connection, identifier(ledger_id, event_id, draft), event_id, draft)
    connection.execute(
        "UPDATE meter_events SET identifier = ?, idempotency_key = ? WHERE event_id = ?",
        (name, name, event_id),
    )
    return MeterEvent(
        event_id=event_id,
        account=account,
        event_name=event_name,
        customer=customer,
        value=draft.value,
        timestamp=draft.timestamp,
        identifier=name,
        idempotency_key=name,
        payload=json.loads(draft.payload) if draft.payload else {},
    )


def _unused_identifier(connection: sqlite3.Connection, name: str, event_id: int, draft: Draft) -> str:
    """The identifier, or one derived from it when an event of the same record came back under it before."""
    if draft.record_key is None:
        return name
    used = connection.execute(
        "SELECT 1 FROM meter_events WHERE record_key = ? AND state = ?", (draft.record_key, EventState.RETURNED)
    ).fetchone()
    if used is None:
        return name
    return resend_identifier(name, event_steps.identifiers_so_far(connection, event_id, draft.record_key))


def unsettled(connection: sqlite3.Connection, book: str, after: int, limit: int) -> list[MeterEvent]:
    """Meter events without a definite answer, in the order of their ids."""
    return [_event(row) for row in connection.execute(_UNSETTLED, (after, book, limit))]


def take_released(connection: sqlite3.Connection, book: str, limit: int) -> list[MeterEvent]:
    """Meter events that were made or released outside of freezing, each told once in the life of a process."""
    found = [_event(row) for row in connection.execute(_RELEASED, (book, limit)).fetchall()]
    connection.executemany("DELETE FROM released_events WHERE event_id = ?", [(event.event_id,) for event in found])
    return found


def _event(row: tuple[Any, ...]) -> MeterEvent:
    values = list(row)
    values[8] = json.loads(values[8]) if values[8] else {}
    values[11] = bool(values[11])
    return MeterEvent(*values)


def begin(connection: sqlite3.Connection, events: Sequence[MeterEvent], now: float, batch: int = 0) -> None:
    """Write down that an attempt at each begins, before a byte is sent; in one call, if they are a batch."""
    event_steps.begin(connection, [event.event_id for event in events], now, batch)


def settle(connection: sqlite3.Connection, event: MeterEvent, outcome: Outcome, now: float) -> None:
    """Write down what became of an attempt."""
    match outcome:
        case Accepted(request_id, duplicate):
            event_steps.take(connection, event.event_id, EventStep.ACCEPT)
            connection.execute(
                "UPDATE meter_events SET settled_at = ?, request_id = ?, duplicate = ?, message = NULL "
                "WHERE event_id = ?",
                (now, request_id, duplicate, event.event_id),
            )
        case Refused(reason, why, code, request_id, uncertain):
            # After an attempt with an unknown outcome this answer does not say that nothing was counted.
            uncertain = uncertain or event.uncertain
            if uncertain:
                what = EventStep.EXPIRE
            elif reason in RETURNABLE and give_back(connection, event.event_id, reason, now):
                what = EventStep.GIVE_BACK
            else:
                what = EventStep.REFUSE
            event_steps.take(connection, event.event_id, what)
            connection.execute(
                "UPDATE meter_events SET settled_at = ?, reason = ?, message = ?, code = ?, request_id = ?, "
                "uncertain = ? WHERE event_id = ?",
                (now, reason, why, code, request_id, uncertain, event.event_id),
            )
        case Retry(why=why, uncertain=uncertain, new_key=new_key):
            _not_settled(connection, event, why, uncertain=uncertain)
            if new_key:
                key = next_idempotency_key(event.identifier, event.attempts)
                connection.execute(
                    "UPDATE meter_events SET idempotency_key = ? WHERE event_id = ?", (key, event.event_id)
                )
        case Halted(why=why):
            _not_settled(connection, event, why, uncertain=False)
    reached("settle: written")


def expire(connection: sqlite3.Connection, event: MeterEvent, now: float) -> None:
    """Set an uncertain event aside: Stripe may have forgotten its identifier, and it may have been counted."""
    event_steps.take(connection, event.event_id, EventStep.EXPIRE)
    connection.execute("UPDATE meter_events SET settled_at = ? WHERE event_id = ?", (now, event.event_id))


def _not_settled(connection: sqlite3.Connection, event: MeterEvent, why: str, *, uncertain: bool) -> None:
    """No answer yet. An event that was uncertain once stays so, whatever later attempts say."""
    uncertain = uncertain or event.uncertain
    event_steps.take(connection, event.event_id, EventStep.UNCERTAIN if uncertain else EventStep.NOT_PROCESSED)
    connection.execute(
        "UPDATE meter_events SET uncertain = ?, message = ? WHERE event_id = ?",
        (uncertain, why, event.event_id),
    )
