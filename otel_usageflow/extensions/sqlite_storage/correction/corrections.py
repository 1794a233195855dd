"""Corrections in the database: read with what they are about, and taken from step to step.

Every step is checked against the table in `ledger/correction.py`, and what changes money leaves an entry in the audit
log, in the same transaction.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from otel_usageflow.extensions.sqlite_storage.doubt.doubt_ledger import Runs
from otel_usageflow.extensions.sqlite_storage.flow import event_steps
from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.audit import SERVICE, Change
from otel_usageflow.ledger.correction import SETTLED, Corrected, Correction, CorrectionState, check_step
from otel_usageflow.ledger.identifier import adjustment_identifier
from otel_usageflow.ledger.reconcile import Pair
from otel_usageflow.ledger.states import EventState, EventStep
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.usage import Quantity

_SELECT = """
SELECT c.adjustment_id, a.account, c.event_name, c.customer, c.quantity, c.timestamp, c.whole, c.origin, c.why,
       c.actor, c.asked_at, c.state, c.attempts, c.first_attempt_at, c.last_attempt_at, c.settled_at, c.message,
       c.corrects, c.event_id, t.identifier, t.state, t.message,
       e.identifier, e.state, e.value, e.first_attempt_at,
       EXISTS (SELECT 1 FROM adjustments o WHERE o.corrects = c.corrects AND o.adjustment_id != c.adjustment_id
               AND o.state != 'void')
FROM adjustments c JOIN accounts a USING (account_id)
LEFT JOIN meter_events t ON t.event_id = c.event_id LEFT JOIN meter_events e ON e.event_id = c.corrects
"""
# What was billed is looked at again: Stripe may refuse an event after it took it.
_OPEN = f"""
{_SELECT} WHERE a.book = :book AND (c.settled_at IS NULL
  OR c.state = 'billed' AND t.state NOT IN ({int(EventState.ACCEPTED)}, {int(EventState.CANCELLED)}))
ORDER BY c.adjustment_id
"""


class SqliteCorrections:
    """The corrections of one book. `change` runs in the writer's thread, `look` beside it."""

    def __init__(self, change: Runs, look: Runs, book: str) -> None:
        self._change = change
        self._look = look
        self._book = book

    async def open(self) -> Sequence[Correction]:
        """Corrections that something may have to be done about, oldest first."""
        return await self._look(lambda c: opened(c, self._book))

    async def begin_cancel(self, number: int, now: float) -> bool:
        """Write down that Stripe is asked to cancel; False if the event is not there to be cancelled any more."""
        begun = await self._change(lambda c: begin_cancel(c, number, now))
        reached("cancel: durable")
        return begun

    async def not_processed(self, number: int, why: str) -> None:
        """The first attempt to cancel was certainly not processed: the correction stands as it was asked for."""
        await self._change(lambda c: _move(c, number, CorrectionState.ASKED, why))

    async def note(self, number: int, why: str) -> None:
        """Remember what an attempt came to that decided nothing."""
        await self._change(
            lambda c: c.execute("UPDATE adjustments SET message = ? WHERE adjustment_id = ?", (why, number)).rowcount
        )

    async def cancelled(self, number: int, message: str, now: float) -> None:
        """Stripe has cancelled the event."""
        await self._change(lambda c: cancelled(c, number, message, now))
        reached("correction: durable")

    async def tell(self, number: int, value: Quantity, now: float) -> str:
        """Make the meter event that tells the correction, and hand it to the sender; its identifier."""
        identifier = await self._change(lambda c: tell(c, number, value, now))
        reached("correction: durable")
        return identifier

    async def become(self, number: int, state: CorrectionState, message: str, now: float) -> None:
        """Take another step."""
        await self._change(lambda c: become(c, number, state, message, now))


def opened(connection: sqlite3.Connection, book: str) -> list[Correction]:
    """Corrections that something may have to be done about, oldest first."""
    return [_correction(row) for row in connection.execute(_OPEN, {"book": book})]


def listed(connection: sqlite3.Connection, numbers: Sequence[int] | None = None) -> list[Correction]:
    """All corrections of the ledger, or those with these numbers, oldest first."""
    if numbers is None:
        return [_correction(row) for row in connection.execute(f"{_SELECT} ORDER BY 1")]
    marks = ", ".join("?" * len(numbers))
    return [_correction(row) for row in connection.execute(f"{_SELECT} WHERE adjustment_id IN ({marks})", numbers)]


def about(connection: sqlite3.Connection, event_id: int) -> list[Correction]:
    """Corrections of a meter event, those of its corrections included, oldest first."""
    found: list[Correction] = []
    events = [event_id]
    while events:
        rows = connection.execute(f"{_SELECT} WHERE c.corrects = ? ORDER BY 1", (events.pop(),)).fetchall()
        found.extend(map(_correction, rows))
        events.extend(row[18] for row in rows if row[18] is not None)
    return found


def begin_cancel(connection: sqlite3.Connection, number: int, now: float) -> bool:
    """Write down that Stripe is asked to cancel, before it is."""
    event = connection.execute(
        "SELECT e.state FROM adjustments c JOIN meter_events e ON e.event_id = c.corrects WHERE adjustment_id = ?",
        (number,),
    ).fetchone()
    if event is None or event[0] != EventState.ACCEPTED:
        return False
    _move(connection, number, CorrectionState.CANCELLING, None)
    connection.execute(
        "UPDATE adjustments SET attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, :now), "
        "last_attempt_at = :now WHERE adjustment_id = :number",
        {"now": now, "number": number},
    )
    return True


def cancelled(connection: sqlite3.Connection, number: int, message: str, now: float) -> None:
    """Stripe has cancelled the event that a correction is about: it is billed no more."""
    _move(connection, number, CorrectionState.CANCELLED, message, now)
    event_id, identifier, state = connection.execute(
        "SELECT e.event_id, e.identifier, e.state FROM adjustments c JOIN meter_events e ON e.event_id = c.corrects "
        "WHERE adjustment_id = ?",
        (number,),
    ).fetchone()
    if state == EventState.ACCEPTED:  # or Stripe has refused it meanwhile, which is as good
        event_steps.take(connection, event_id, EventStep.CANCEL)
        connection.execute("UPDATE meter_events SET settled_at = ? WHERE event_id = ?", (now, event_id))
    change = Change(
        SERVICE,
        "cancelled",
        f"meter event {identifier}",
        {"state": EventState(state).name.lower()},
        {"state": EventState.CANCELLED.name.lower(), "correction": number},
        message,
    )
    audit.record(connection, change, now)
    reached("correction: written")


def tell(connection: sqlite3.Connection, number: int, value: Quantity, now: float) -> str:
    """Make the meter event that tells a correction, frozen like all others; its identifier."""
    _move(connection, number, CorrectionState.SENDING, None)
    # With the further keys of what it corrects: they decide which dimension is lowered.
    (event_id,) = connection.execute(
        """INSERT INTO meter_events (account_id, event_name, customer, payload, value, timestamp, identifier,
                                     idempotency_key, requests, parts, state, frozen_at)
           SELECT c.account_id, c.event_name, c.customer, coalesce(e.payload, ''), ?, c.timestamp, '', '', 0, 1, ?, ?
           FROM adjustments c LEFT JOIN meter_events e ON e.event_id = c.corrects WHERE c.adjustment_id = ?
           RETURNING event_id""",
        (amount.plain(value), EventState.FROZEN, now, number),
    ).fetchone()
    (ledger_id,) = connection.execute("SELECT ledger_id FROM ledger").fetchone()
    name = adjustment_identifier(ledger_id, event_id, number, amount.plain(value))
    connection.execute(
        "UPDATE meter_events SET identifier = ?, idempotency_key = ? WHERE event_id = ?", (name, name, event_id)
    )
    connection.execute("UPDATE adjustments SET event_id = ? WHERE adjustment_id = ?", (event_id, number))
    connection.execute("INSERT INTO released_events VALUES (?)", (event_id,))
    after = {"meter_event": name, "value": amount.plain(value)}
    audit.record(connection, Change(SERVICE, "told", f"correction {number}", after=after), now)
    reached("correction: written")
    return name


def become(connection: sqlite3.Connection, number: int, state: CorrectionState, message: str, now: float) -> None:
    """Take another step; a meter event that Stripe refused will not be released by anybody any more."""
    before = _move(connection, number, state, message, now if state in SETTLED else None)
    if state is CorrectionState.BY_HAND:
        refused = connection.execute(
            "SELECT e.event_id FROM adjustments c JOIN meter_events e USING (event_id) "
            "WHERE adjustment_id = ? AND e.state = ?",
            (number, EventState.REFUSED),
        ).fetchone()
        if refused is not None:
            event_steps.take(connection, refused[0], EventStep.DISCARD)
    if state in SETTLED:
        change = Change(SERVICE, str(state), f"correction {number}", {"state": before}, {"state": state}, message)
        audit.record(connection, change, now)


def _move(
    connection: sqlite3.Connection,
    number: int,
    after: CorrectionState,
    message: str | None,
    settled_at: float | None = None,
) -> CorrectionState:
    (state,) = connection.execute("SELECT state FROM adjustments WHERE adjustment_id = ?", (number,)).fetchone()
    before = CorrectionState(state)
    check_step(before, after)
    connection.execute(
        "UPDATE adjustments SET state = ?, message = ?, settled_at = ? WHERE adjustment_id = ?",
        (after, message, settled_at, number),
    )
    return before


def _correction(row: Sequence[Any]) -> Correction:
    (number, account, event_name, customer, quantity, timestamp, whole, origin, *facts) = row
    (why, actor, asked_at, state, attempts, first, last, settled_at, message, corrects, event_id, *events) = facts
    (identifier, event_state, event_message, other, other_state, other_value, other_first, others) = events
    corrected = None
    if other is not None:
        corrected = Corrected(
            corrects,
            other,
            EventState(other_state),
            amount.restored(other_value),
            other_first or 0.0,
            bool(others),
        )
    return Correction(
        number=number,
        pair=Pair(account, event_name, customer),
        quantity=amount.restored(quantity),
        timestamp=timestamp,
        whole=bool(whole),
        origin=origin,
        why=why,
        actor=actor,
        asked_at=asked_at,
        state=CorrectionState(state),
        attempts=attempts,
        first_attempt_at=first,
        last_attempt_at=last,
        settled_at=settled_at,
        message=message,
        corrected=corrected,
        corrects=corrects,
        event_id=event_id,
        event_identifier=identifier,
        event_state=None if event_state is None else EventState(event_state),
        event_message=event_message,
    )
