"""What was decided about entries of quarantine, and where it is told: each step is one entry of the audit log, and
everything that it touched points there.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.audit import Change
from otel_usageflow.ledger.audit import Entry as AuditEntry
from otel_usageflow.ledger.charge import trace_of
from otel_usageflow.ledger.quarantine import Entry, Kind
from otel_usageflow.model.usage import Quantity

RELEASED, DISCARDED, REFILED = "released", "discarded", "refiled"
"""Actions in the audit log."""

_MOST_NAMED = 50
"""Entries that the log names one by one; of more it has a digest, and `decisions` has each."""

Subject = bytes | str


@dataclass(frozen=True, slots=True)
class Who:
    """Who decided, why, and what they asked for: JSON values."""

    actor: str
    why: str
    asked: Mapping[str, object] = field(default_factory=dict)


def subject_of(entry: Entry) -> Subject:
    """What an entry is called in `decisions`."""
    if entry.kind is Kind.REQUEST:
        assert isinstance(entry.place, bytes)
        return entry.place
    if entry.kind is Kind.WINDOW:
        assert isinstance(entry.place, tuple)
        return window_subject(*entry.place)
    assert isinstance(entry.place, int)
    return event_subject(entry.place)


def event_subject(event_id: int) -> str:
    """What a meter event is called there."""
    return f"event {event_id}"


def window_subject(length: int, start: int, series_id: int, first_seq: int) -> str:
    """What a window is called there."""
    return f"window {length}/{start}/{series_id}/{first_seq}"


def record(
    connection: sqlite3.Connection,
    action: str,
    who: Who,
    entries: Sequence[Entry],
    now: float,
    more: Mapping[str, object] | None = None,
) -> None:
    """Write down a step: one entry of the audit log, and a line for everything that it touched."""
    quantity: Quantity = 0
    for one in entries:
        quantity = amount.add(quantity, one.quantity or 0)
    after: dict[str, object] = {
        "entries": len(entries),
        "requests": sum(one.requests for one in entries),
        "quantity": amount.plain(quantity),
        "reasons": sorted({str(one.reason) for one in entries}),
        **_told(entries),
        **(more or {}),
    }
    change = Change(who.actor, action, "quarantine", before=who.asked, after=after, why=who.why)
    written = audit.record(connection, change, now)
    connection.executemany(
        "INSERT OR IGNORE INTO decisions VALUES (?, ?)", [(subject_of(one), written.entry) for one in entries]
    )


def about(connection: sqlite3.Connection, subjects: Iterable[Subject]) -> list[AuditEntry]:
    """The entries of the audit log that speak of one of these, oldest first."""
    numbers = sorted(
        {
            number
            for subject in subjects
            for (number,) in connection.execute("SELECT entry FROM decisions WHERE subject = ?", (subject,))
        }
    )
    columns = "entry, at, actor, action, subject, before, after, why, hash"
    rows = (connection.execute(f"SELECT {columns} FROM audit WHERE entry = ?", (n,)).fetchone() for n in numbers)
    return [AuditEntry(*row) for row in rows if row is not None]


def _told(entries: Sequence[Entry]) -> dict[str, object]:
    names = sorted(_name(one) for one in entries)
    if len(names) <= _MOST_NAMED:
        return {"what": names}
    return {"digest": hashlib.sha256("\n".join(names).encode()).hexdigest()}


def _name(entry: Entry) -> str:
    if entry.kind is Kind.REQUEST:
        assert isinstance(entry.place, bytes)
        trace_id, span_id = trace_of(entry.place)
        return f"request {trace_id.hex()}/{span_id.hex()}"
    if entry.kind is Kind.EVENT:
        return f"meter event {entry.identifier}"
    return str(subject_of(entry))
