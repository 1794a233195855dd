"""A copy of a ledger that is put in its place: what the original did after the copy was made, nobody knows any more.

The original may have sent what in the copy waits to be sent, and may have frozen and sent what in the copy is still
collecting or held. So in a copy
- every meter event that could be sent counts as begun, with an unknown outcome, at the moment of the copy: it is sent
  again under its identifier while Stripe certainly knows that, and is UNKNOWN afterwards;
- usage that was not in a meter event yet takes no more records, and is known by the number of the last commit in the
  copy (`ledger.copied_seq`). When it is frozen, its event is one of unknown outcome from the start: the original made
  the same event under another identifier, or did not, and only the meter's summaries can tell. Events of single
  records have the same identifier in both, and are sent again like the others.
- where the stream was used, nobody knows by which of the two ways the original sent an event that had not begun, and
  what one way has seen may be news to the other: such an event is UNKNOWN at once.
- what waited for spans of its trace waits no more, and is usage like the other, of the spans that are in the copy.
"""

import sqlite3
from dataclasses import replace

from otel_usageflow.extensions.sqlite_storage.connect.connections import forget_open_links
from otel_usageflow.extensions.sqlite_storage.flow import event_steps
from otel_usageflow.extensions.sqlite_storage.flow.trace_settling import settle_everything
from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.ledger.audit import SERVICE, Change
from otel_usageflow.ledger.states import EventState, EventStep
from otel_usageflow.model.meter_event import MeterEvent


def mark_copy(connection: sqlite3.Connection, action: str, at: float, **more: object) -> int:
    """Turn a file that was copied into a ledger that can go on; return how many events became uncertain.

    Args:
        connection: to the copy, in a transaction.
        action: `copied` or `recovered`, for the audit log of the copy.
        at: the moment of the copy, unix seconds.
    """
    waiting = connection.execute("SELECT event_id FROM meter_events WHERE state = ?", (EventState.FROZEN,)).fetchall()
    either_way = has_streamed(connection)
    for (event_id,) in waiting:
        if either_way:
            _set_aside(connection, event_id, at, at)
        else:
            _begin(connection, event_id, at)
    settle_everything(connection, [book for (book,) in connection.execute("SELECT book FROM books").fetchall()], at)
    connection.execute("UPDATE open_windows SET sealed = 1")
    forget_open_links(connection)
    connection.execute("UPDATE ledger SET copied_seq = seq, copied_at = ?", (at,))
    change = Change(SERVICE, action, "ledger", after={"uncertain_events": len(waiting), **more})
    audit.record(connection, change, at)
    return len(waiting)


def copied(connection: sqlite3.Connection) -> tuple[int, float]:
    """(last commit, unix seconds) of the copy that this ledger began as; zeros if it did not."""
    seq, at = connection.execute("SELECT copied_seq, copied_at FROM ledger").fetchone()
    return int(seq), float(at)


def has_streamed(connection: sqlite3.Connection) -> bool:
    """Whether there ever was a call of the stream, so that an event can have gone by either of two ways."""
    found = connection.execute("SELECT 1 FROM sqlite_sequence WHERE name = 'stream_batches' AND seq > 0").fetchone()
    return found is not None


def as_uncertain(connection: sqlite3.Connection, event: MeterEvent, at: float) -> MeterEvent:
    """The event of a single record whose usage was in the copy: perhaps sent since `at`."""
    _begin(connection, event.event_id, at)
    return replace(event, attempts=1, first_attempt_at=at, uncertain=True)


def as_unknown(connection: sqlite3.Connection, event: MeterEvent, at: float, now: float) -> None:
    """An event whose usage was in the copy: perhaps sent since `at`, under another identifier or by another way."""
    _set_aside(connection, event.event_id, at, now)


def _set_aside(connection: sqlite3.Connection, event_id: int, at: float, now: float) -> None:
    _begin(connection, event_id, at)
    event_steps.take(connection, event_id, EventStep.EXPIRE)
    connection.execute(
        "UPDATE meter_events SET settled_at = ?, message = ? WHERE event_id = ?",
        (now, "its usage was in a restored copy of the ledger, and may have been sent before", event_id),
    )


def _begin(connection: sqlite3.Connection, event_id: int, at: float) -> None:
    event_steps.take(connection, event_id, EventStep.BEGIN)
    connection.execute(
        "UPDATE meter_events SET uncertain = 1, attempts = attempts + 1, first_attempt_at = ? WHERE event_id = ?",
        (at, event_id),
    )
