"""Meter events: written once, sent unchanged, and settled. Every change of state goes through the table of states."""

import json
import sqlite3
from collections.abc import Sequence

from otel_usageflow.ledger.charge import MINUTE
from otel_usageflow.ledger.freeze import Draft
from otel_usageflow.ledger.identifier import identifier, next_idempotency_key
from otel_usageflow.ledger.states import EventState, EventStep, step
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Halted, Outcome, Refused, Retry
from otel_usageflow.model.usage import Reason

_RETURNABLE = (Reason.NO_CUSTOMER, Reason.NO_METER)
"""Refusals whose cause can disappear by itself: the windows go back to waiting, and get another event then."""

_UNSETTLED = """
SELECT e.event_id, a.account, e.event_name, e.customer, e.value, e.timestamp, e.identifier, e.idempotency_key,
       e.payload, e.attempts, e.first_attempt_at, e.uncertain OR e.state = 1
FROM meter_events e JOIN accounts a USING (account_id)
WHERE e.state IN (0, 1) AND e.event_id > ? AND a.book = ? ORDER BY e.event_id LIMIT ?
"""


def write(connection: sqlite3.Connection, book: str, draft: Draft, now: float) -> MeterEvent:
    """Write a meter event down. From here on nothing of it changes but its state."""
    account, event_name, customer = draft.lane
    (event_id,) = connection.execute(
        """
        INSERT INTO meter_events (account_id, event_name, customer, payload, value, timestamp, identifier,
                                  idempotency_key, record_key, requests, parts, state, frozen_at)
        VALUES ((SELECT account_id FROM accounts WHERE book = ? AND account = ?),
                ?, ?, ?, ?, ?, '', '', ?, ?, ?, ?, ?)
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
            draft.parts,
            EventState.FROZEN,
            now,
        ),
    ).fetchone()
    (ledger_id,) = connection.execute("SELECT ledger_id FROM ledger").fetchone()
    name = _unused_identifier(connection, identifier(ledger_id, event_id, draft), draft.record_key)
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


def _unused_identifier(connection: sqlite3.Connection, name: str, record_key: bytes | None) -> str:
    """The identifier, or one derived from it when an event of the same record came back under it before."""
    if record_key is None:
        return name
    (returned,) = connection.execute(
        "SELECT count(*) FROM meter_events WHERE record_key = ? AND state = ?",
        (record_key, EventState.RETURNED),
    ).fetchone()
    return f"{name}_r{returned}" if returned else name


def unsettled(connection: sqlite3.Connection, book: str, after: int, limit: int) -> list[MeterEvent]:
    """Meter events without a definite answer, in the order of their ids."""
    return [
        MeterEvent(
            event_id=event_id,
            account=account,
            event_name=event_name,
            customer=customer,
            value=value,
            timestamp=timestamp,
            identifier=name,
            idempotency_key=key,
            payload=json.loads(payload) if payload else {},
            attempts=attempts,
            first_attempt_at=first_attempt_at,
            uncertain=bool(uncertain),
        )
        for (
            event_id,
            account,
            event_name,
            customer,
            value,
            timestamp,
            name,
            key,
            payload,
            attempts,
            first_attempt_at,
            uncertain,
        ) in connection.execute(_UNSETTLED, (after, book, limit))
    ]


def begin(connection: sqlite3.Connection, events: Sequence[MeterEvent], now: float) -> None:
    """Write down that an attempt at each begins, before a byte is sent."""
    for event in events:
        _move(connection, event.event_id, EventStep.BEGIN)
    connection.executemany(
        "UPDATE meter_events SET attempts = attempts + 1, "
        "first_attempt_at = coalesce(first_attempt_at, ?) WHERE event_id = ?",
        [(now, event.event_id) for event in events],
    )


def settle(connection: sqlite3.Connection, event: MeterEvent, outcome: Outcome, now: float) -> None:
    """Write down what became of an attempt."""
    match outcome:
        case Accepted(request_id, duplicate):
            _move(connection, event.event_id, EventStep.ACCEPT)
            connection.execute(
                "UPDATE meter_events SET settled_at = ?, request_id = ?, duplicate = ?, message = NULL "
                "WHERE event_id = ?",
                (now, request_id, duplicate, event.event_id),
            )
        case Refused(reason, why, code, request_id, uncertain):
            # After an attempt with an unknown outcome this answer does not say that nothing was counted.
            uncertain = uncertain or event.uncertain
            returned = (
                reason in _RETURNABLE and not uncertain and _return_usage(connection, event.event_id, reason, now)
            )
            _move(connection, event.event_id, EventStep.GIVE_BACK if returned else EventStep.REFUSE)
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


def expire(connection: sqlite3.Connection, event: MeterEvent, now: float) -> None:
    """Set an uncertain event aside: Stripe may have forgotten its identifier, and it may have been counted."""
    _move(connection, event.event_id, EventStep.EXPIRE)
    connection.execute("UPDATE meter_events SET settled_at = ? WHERE event_id = ?", (now, event.event_id))


def _not_settled(connection: sqlite3.Connection, event: MeterEvent, why: str, *, uncertain: bool) -> None:
    """No answer yet. An event that was uncertain once stays so, whatever later attempts say."""
    uncertain = uncertain or event.uncertain
    _move(connection, event.event_id, EventStep.UNCERTAIN if uncertain else EventStep.NOT_PROCESSED)
    connection.execute(
        "UPDATE meter_events SET uncertain = ?, message = ? WHERE event_id = ?",
        (uncertain, why, event.event_id),
    )


def _move(connection: sqlite3.Connection, event_id: int, what: EventStep) -> None:
    (state,) = connection.execute("SELECT state FROM meter_events WHERE event_id = ?", (event_id,)).fetchone()
    connection.execute(
        "UPDATE meter_events SET state = ? WHERE event_id = ?", (step(EventState(state), what), event_id)
    )


def _return_usage(connection: sqlite3.Connection, event_id: int, reason: Reason, now: float) -> bool:
    """What a definitely refused event covered waits again, for the customer or the meter to appear.

    False if it must not: of an amount that was split over several events another part may have been accepted, so
    somebody must look.
    """
    record_key, parts = connection.execute(
        "SELECT record_key, parts FROM meter_events WHERE event_id = ?", (event_id,)
    ).fetchone()
    if parts > 1:
        return False
    if record_key is not None:
        return _return_record(connection, record_key, reason, now)
    _hold_again(connection, "event_id = ?", (event_id,), reason, now)
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
