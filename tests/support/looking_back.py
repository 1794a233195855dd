"""What tests of doubts and late reports share: one clock for the service and the double, and a view of the events."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from otel_usageflow.exporters.stripe_meter.rhythm import Rhythm
from otel_usageflow.extensions.sqlite_storage.file import open_for_commands, open_for_reading
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.clock import SECOND, SteadyClock
from otel_usageflow.testing.stripe import StripeDouble

HOUR = 3_600.0
RHYTHM = Rhythm(tick=0.02, look=0.02, reports_idle=600.0, reads_per_second=1_000, reads_per_hour=100_000)
"""Looks all the time; what is waited for by the clock is waited for by advancing it."""
_EVENTS = "SELECT state, identifier, value, reason, code FROM meter_events ORDER BY event_id"


def clock_of(stripe: StripeDouble) -> SteadyClock:
    """The double's time, for the service."""
    return SteadyClock(wall=lambda: int(stripe.clock.now() * SECOND))


class Event(NamedTuple):
    """A meter event as it stands in the ledger."""

    state: EventState
    identifier: str
    value: str
    reason: str | None
    code: str | None


def events(directory: Path) -> list[Event]:
    """All meter events, in the order in which they were made."""
    return [Event(EventState(row[0]), *row[1:]) for row in rows(directory, _EVENTS)]


def states(directory: Path) -> list[str]:
    """The state of each event."""
    return [event.state.name for event in events(directory)]


def rows(directory: Path, query: str, *values: object) -> list[tuple[object, ...]]:
    """Rows of the ledger."""
    with closing(open_for_reading(directory)) as connection:
        return connection.execute(query, values).fetchall()


def audited(directory: Path) -> list[str]:
    """The actions in the audit log about meter events."""
    found = rows(directory, "SELECT action FROM audit WHERE subject LIKE 'meter event %' ORDER BY entry")
    return [str(action) for (action,) in found]


def command(directory: Path) -> sqlite3.Connection:
    """A connection as commands have it."""
    return open_for_commands(directory)


def names(found: Sequence[Event]) -> list[str]:
    """Their identifiers."""
    return [event.identifier for event in found]
