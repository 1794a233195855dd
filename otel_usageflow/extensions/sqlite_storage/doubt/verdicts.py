"""What was found out about a meter event whose answer is in doubt becomes its state: counted, or not.

Every verdict leaves an entry in the audit log, with what it rests on.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from otel_usageflow.errors import UsageError
from otel_usageflow.extensions.sqlite_storage.flow import event_steps
from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.ledger.audit import Change
from otel_usageflow.ledger.charge import STRIPE_PAST, first_key
from otel_usageflow.ledger.identifier import place_of
from otel_usageflow.ledger.states import EventState, EventStep
from otel_usageflow.model.usage import Reason

_SENDING_MARGIN = 300
"""Seconds before Stripe's 35-day limit after which usage is not sent again: it must still arrive in time."""
_TOO_OLD = "not counted, and more than 35 days old: Stripe takes it no more"


@dataclass(frozen=True, slots=True)
class Ground:
    """Who says so, and why: for the audit log. `evidence` has JSON values, quantities as decimal strings."""

    actor: str
    why: str
    evidence: Mapping[str, object]


def decide(
    connection: sqlite3.Connection, identifier: str, *, counted: bool, actor: str, why: str, now: float
) -> str:
    """A person says whether an event of unknown outcome was counted; return its identifier afterwards.

    What was not counted is sent again under a derived identifier, unless it is too old: then it is kept aside as
    `too_old`. To be called in a transaction.

    Raises:
        UsageError: there is no such event, or nothing about it is unknown.
    """
    event_id = event_named(connection, identifier)
    if event_id is None:
        raise UsageError(
            f"no meter event has the identifier {identifier}; `explain TRACE_ID` shows those of a request"
        )
    state, name = _standing(connection, event_id)
    if state is not EventState.UNKNOWN or name != identifier:
        raise UsageError(
            f"the meter event {identifier} is {state.name.lower()}{'' if name == identifier else f' as {name}'}: "
            "only one whose outcome is unknown can be decided"
        )
    ground = Ground(actor, why, {})
    if counted:
        count(connection, event_id, ground, now)
        return identifier
    return not_counted(connection, event_id, ground, now)


def count(connection: sqlite3.Connection, event_id: int, ground: Ground, now: float) -> None:
    """An event of unknown outcome was counted."""
    _, name = _standing(connection, event_id)
    event_steps.take(connection, event_id, EventStep.COUNT)
    connection.execute(
        "UPDATE meter_events SET settled_at = ?, reason = NULL, code = NULL, message = ? WHERE event_id = ?",
        (now, ground.why, event_id),
    )
    _record(connection, "found counted", name, EventState.UNKNOWN, {"state": "accepted"}, ground, now)


def not_counted(connection: sqlite3.Connection, event_id: int, ground: Ground, now: float) -> str:
    """An event of unknown outcome was not counted: it is sent again; return its identifier afterwards."""
    _, name = _standing(connection, event_id)
    (timestamp,) = connection.execute("SELECT timestamp FROM meter_events WHERE event_id = ?", (event_id,)).fetchone()
    if timestamp < now - STRIPE_PAST + _SENDING_MARGIN:
        _refuse(connection, event_id, Reason.TOO_OLD, "", _TOO_OLD, now)
        after: dict[str, object] = {"state": "refused", "reason": Reason.TOO_OLD}
        _record(connection, "found not counted", name, EventState.UNKNOWN, after, ground, now)
        return name
    again = event_steps.resend(connection, event_id)
    _record(
        connection,
        "found not counted",
        name,
        EventState.UNKNOWN,
        {"state": "frozen", "identifier": again},
        ground,
        now,
    )
    return again


def reject(
    connection: sqlite3.Connection, event_id: int, code: str, message: str, ground: Ground, now: float
) -> None:
    """Stripe has not counted an event that it took: it is kept aside as `rejected`, until somebody acts."""
    state, name = _standing(connection, event_id)
    _refuse(connection, event_id, Reason.REJECTED, code, message, now)
    after = {"state": "refused", "reason": Reason.REJECTED, "code": code, "message": message}
    _record(connection, "rejected by Stripe", name, state, after, ground, now)


def event_named(connection: sqlite3.Connection, identifier: str, account_id: int | None = None) -> int | None:
    """The event that has, or had, this identifier; found by the place that it names, without an index of texts.

    Of single records test mode and live mode may each have one of this name: `account_id` says which is meant.
    """
    event_id, second = place_of(identifier)
    asked: tuple[object, ...]
    if event_id is not None:
        which, asked = "event_id = ?", (event_id,)
    elif second is not None:
        which, asked = "record_key >= ? AND record_key < ?", (first_key(second), first_key(second + 1))
    else:
        return None
    if account_id is not None:
        which, asked = f"{which} AND account_id = ?", (*asked, account_id)
    row = connection.execute(
        f"""SELECT event_id FROM meter_events e WHERE {which} AND (identifier = ? OR EXISTS
            (SELECT 1 FROM answers a WHERE a.event_id = e.event_id AND a.identifier = ?))
            ORDER BY identifier = ? DESC""",
        (*asked, identifier, identifier, identifier),
    ).fetchone()
    return None if row is None else int(row[0])


def _refuse(
    connection: sqlite3.Connection, event_id: int, reason: Reason, code: str, message: str, now: float
) -> None:
    event_steps.take(connection, event_id, EventStep.REJECT)
    connection.execute(
        "UPDATE meter_events SET settled_at = ?, uncertain = 0, duplicate = 0, reason = ?, code = ?, message = ? "
        "WHERE event_id = ?",
        (now, reason, code, message, event_id),
    )


def _standing(connection: sqlite3.Connection, event_id: int) -> tuple[EventState, str]:
    state, name = connection.execute(
        "SELECT state, identifier FROM meter_events WHERE event_id = ?", (event_id,)
    ).fetchone()
    return EventState(state), str(name)


def _record(
    connection: sqlite3.Connection,
    action: str,
    name: str,
    before: EventState,
    after: Mapping[str, object],
    ground: Ground,
    now: float,
) -> None:
    change = Change(
        actor=ground.actor,
        action=action,
        subject=f"meter event {name}",
        before={"state": before.name.lower()},
        after={**after, **ground.evidence},
        why=ground.why,
    )
    audit.record(connection, change, now)
