"""Asking for corrections: what is written down when a person wants something corrected, and what is refused.

A correction is appended, and told in the audit log in the same transaction; the service carries it out.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_usageflow.errors import UsageError
from otel_usageflow.extensions.sqlite_storage.correction.corrections import about
from otel_usageflow.extensions.sqlite_storage.doubt.reconcile import tallies
from otel_usageflow.extensions.sqlite_storage.doubt.verdicts import event_named
from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.audit import Change
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.correction import TELL_FOR, CorrectionState, effective
from otel_usageflow.ledger.reconcile import Only, Pair, Stretch
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.usage import Quantity

_AHEAD = 300.0
"""Seconds ahead that Stripe takes a timestamp."""
_NOT_BILLED = {
    EventState.FROZEN: "it has not been sent yet; correct it when it is billed",
    EventState.SENDING: "it has no answer of Stripe yet; correct it when it is billed",
    EventState.REFUSED: "Stripe refused it, so nothing of it is billed; see `quarantine list`",
    EventState.UNKNOWN: "nobody knows whether Stripe has counted it; settle that first, with "
    "`reconcile --counted` or `--not-counted`",
    EventState.RETURNED: "nothing of it is billed: what it covered waits again; see `quarantine list`",
    EventState.DISCARDED: "it was discarded, so nothing of it is billed",
    EventState.CANCELLED: "it is cancelled already",
}


class Asker(NamedTuple):
    """Who asks, why, and when (unix seconds).

    `origin` is `asked`, or `reconcile` for what makes Stripe's sum what the ledger says already. `again`: although
    the same was asked for before.
    """

    actor: str
    why: str
    now: float
    origin: str = "asked"
    again: bool = False


@dataclass(slots=True)
class Asked:
    """The numbers of new corrections, and what the person should know."""

    numbers: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class _Event(NamedTuple):
    event_id: int
    account_id: int
    event_name: str
    customer: str
    value: Quantity
    timestamp: int
    state: EventState
    identifier: str


def correct_event(connection: sqlite3.Connection, identifier: str, quantity: Quantity | None, asker: Asker) -> Asked:
    """Ask for a whole meter event to be undone, or for a quantity to be added to it. To be called in a transaction.

    An amount that was told in several events is undone in all of them.

    Raises:
        UsageError: there is nothing to correct, or the same was asked for before.
    """
    parts = _parts(connection, identifier)
    for part in parts:
        if part.state is not EventState.ACCEPTED:
            which = "" if part.identifier == identifier else f" (its part {part.identifier})"
            raise UsageError(f"the meter event {identifier} cannot be corrected{which}: {_NOT_BILLED[part.state]}")
    if quantity is None:
        return _undo(connection, identifier, parts, asker)
    _check_quantity(quantity)
    before = [one for part in parts for one in about(connection, part.event_id)]
    live = [one for one in before if one.state is not CorrectionState.VOID and one.origin != "reconcile"]
    undone = next((one for one in live if one.whole and one.corrects in {part.event_id for part in parts}), None)
    if undone is not None:
        raise UsageError(f"the meter event {identifier} is undone as a whole by correction {undone.number}")
    same = next((one for one in live if one.quantity == quantity and one.corrects == parts[0].event_id), None)
    _check_again(same.number if same is not None else None, asker)
    asked = Asked()
    total: Quantity = quantity
    for part in parts:
        total = amount.add(total, effective(part.event_id, part.value, about(connection, part.event_id)))
    if total < 0 <= parts[0].value:
        asked.warnings.append(
            f"this takes off more than the event billed: {amount.plain(total)} is left of it, and a sum below 0 is "
            "billed as 0"
        )
    asked.numbers.append(_insert(connection, parts[0], quantity, parts[0].timestamp, asker, whole=False))
    return asked


def _undo(connection: sqlite3.Connection, identifier: str, parts: Sequence[_Event], asker: Asker) -> Asked:
    asked = Asked()
    for part in parts:
        before = [one for one in about(connection, part.event_id) if one.state is not CorrectionState.VOID]
        left = effective(part.event_id, part.value, before)
        whole = next((one.number for one in before if one.whole and one.corrects == part.event_id), None)
        if whole is not None and not left:
            raise UsageError(f"the meter event {identifier} is undone already, by correction {whole}")
        if not left:
            raise UsageError(f"the meter event {identifier} is corrected to 0 already: nothing is left to undo")
        asked.numbers.append(_insert(connection, part, amount.negative(left), part.timestamp, asker, whole=True))
    return asked


def correct_usage(
    connection: sqlite3.Connection,
    account_id: int,
    pair: Pair,
    quantity: Quantity,
    timestamp: int,
    asker: Asker,
    corrects: str | None = None,
) -> Asked:
    """Ask for a quantity to be added to a customer's usage at a moment. To be called in a transaction.

    Raises:
        UsageError: it cannot be asked for.
    """
    _check_quantity(quantity)
    if timestamp > asker.now + _AHEAD:
        raise UsageError("--at: that moment is in the future; Stripe takes no such usage")
    same = connection.execute(
        "SELECT adjustment_id FROM adjustments WHERE account_id = ? AND event_name = ? AND customer = ? AND "
        "timestamp = ? AND quantity = ? AND state != 'void' LIMIT 1",
        (account_id, pair.event_name, pair.customer, timestamp, amount.stored(quantity)),
    ).fetchone()
    _check_again(same[0] if same is not None else None, asker)
    asked = Asked()
    day = Stretch(timestamp - timestamp % DAY, timestamp - timestamp % DAY + DAY, DAY)
    (book,) = connection.execute("SELECT book FROM accounts WHERE account_id = ?", (account_id,)).fetchone()
    billed = tallies(connection, book, day, Only(*pair)).get(pair, {}).get(day.start)
    if asker.origin == "asked" and amount.add(billed.total if billed is not None else 0, quantity) < 0:
        asked.warnings.append(
            f"the ledger has billed {amount.plain(billed.total if billed is not None else 0)} to {pair.customer} on "
            "that day (UTC), which is less than what is taken off"
        )
    if timestamp < asker.now - TELL_FOR:
        asked.warnings.append("Stripe takes nothing older than 35 days: this will be a note of what to do by hand")
    event_id = event_named(connection, corrects) if corrects is not None else None
    event = _Event(event_id or 0, account_id, pair.event_name, pair.customer, 0, timestamp, EventState.ACCEPTED, "")
    asked.numbers.append(
        _insert(connection, event, quantity, timestamp, asker, whole=False, about_event=event_id is not None)
    )
    return asked


def account_numbers(connection: sqlite3.Connection, account: str, event_name: str) -> dict[str, int]:
    """Book -> number of the account in it, for books that know this event name."""
    return dict(
        connection.execute(
            "SELECT book, account_id FROM accounts JOIN meters USING (account_id) "
            "WHERE account = ? AND event_name = ?",
            (account, event_name),
        ).fetchall()
    )


def customers_of(connection: sqlite3.Connection, account_id: int, event_name: str, user: str) -> list[str]:
    """The customers that a user of this event name stands for: the directory's, or the user itself."""
    rows = connection.execute(
        """SELECT DISTINCT CASE WHEN s.metadata_field = '' THEN s.user ELSE c.customer END
           FROM series s JOIN meters m USING (meter_id)
           LEFT JOIN customers c ON c.account_id = m.account_id AND c.field = s.metadata_field AND c.value = s.user
           WHERE m.account_id = ? AND m.event_name = ? AND s.user = ? ORDER BY 1""",
        (account_id, event_name, user),
    )
    return [customer for (customer,) in rows if customer]


def _parts(connection: sqlite3.Connection, identifier: str) -> list[_Event]:
    event_id = event_named(connection, identifier)
    if event_id is None:
        raise UsageError(
            f"no meter event has the identifier {identifier}; `explain TRACE_ID` shows those of a request"
        )
    (first, parts) = connection.execute(
        "SELECT event_id - part, parts FROM meter_events WHERE event_id = ?", (event_id,)
    ).fetchone()
    rows = connection.execute(
        "SELECT event_id, account_id, event_name, customer, value, timestamp, state, identifier FROM meter_events "
        "WHERE event_id BETWEEN ? AND ? ORDER BY 1",
        (first, first + parts - 1),
    )
    found = [_Event(*row) for row in rows]
    return [one._replace(value=amount.restored(str(one.value)), state=EventState(one.state)) for one in found]


def _check_quantity(quantity: Quantity) -> None:
    if not quantity:
        raise UsageError("--quantity: 0 corrects nothing")
    if len(amount.parts(quantity)) > 1:
        raise UsageError("--quantity: Stripe takes at most 15 significant digits; ask for several corrections")


def _check_again(number: int | None, asker: Asker) -> None:
    if number is not None and not asker.again:
        raise UsageError(f"the same was asked for before, as correction {number}; add --again if it is meant twice")


def _insert(
    connection: sqlite3.Connection,
    event: _Event,
    quantity: Quantity,
    timestamp: int,
    asker: Asker,
    *,
    whole: bool,
    about_event: bool = True,
) -> int:
    (number,) = connection.execute(
        """INSERT INTO adjustments (account_id, event_name, customer, quantity, timestamp, corrects, whole, origin,
                                    why, actor, asked_at, state)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING adjustment_id""",
        (
            event.account_id,
            event.event_name,
            event.customer,
            amount.stored(quantity),
            timestamp,
            event.event_id if about_event else None,
            whole,
            asker.origin,
            asker.why,
            asker.actor,
            asker.now,
            CorrectionState.ASKED,
        ),
    ).fetchone()
    after: dict[str, object] = {
        "event_name": event.event_name,
        "customer": event.customer,
        "quantity": amount.plain(quantity),
        "timestamp": timestamp,
        "origin": asker.origin,
    }
    if event.identifier:
        after |= {"corrects": event.identifier, "whole": whole}
    audit.record(
        connection, Change(asker.actor, "asked for", f"correction {number}", after=after, why=asker.why), asker.now
    )
    return int(number)
