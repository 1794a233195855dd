"""Whether rows are of the shape that this program writes: the type of each column, and what must go together.

Sums and digests do not cover everything: a flag of an event that has no answer yet, or a text that has become bytes.
Records and windows have digests and sums of their own, and are too many to be read once more.
"""

import sqlite3

from otel_usageflow.extensions.sqlite_storage.connect.connections import wrong_words
from otel_usageflow.extensions.sqlite_storage.damage import of_connection, recovery
from otel_usageflow.ledger.states import EventState
from otel_usageflow.ledger.verification import Progress, Verification

_TABLES = (
    "quarantine",
    "open_windows",
    "held_windows",
    "meter_events",
    "answers",
    "adjustments",
    "traces",
    "trace_spans",
    "trace_requests",
    "trace_parts",
    "series",
    "origins",
    "stream_batches",
    "report_suspects",
    "ingest_tokens",
    "connections",
    "connect_links",
    "known_meters",
)
_TYPES = {"INTEGER": "('integer')", "REAL": "('real')", "TEXT": "('text')", "BLOB": "('blob')"}

_UNSETTLED = f"({int(EventState.FROZEN)}, {int(EventState.SENDING)})"
_HAD = f"({int(EventState.ACCEPTED)}, {int(EventState.CANCELLED)})"
_RULES = {
    "has an answer and none": f"state IN {_UNSETTLED} AND settled_at IS NOT NULL",
    "is called a duplicate that Stripe never had": f"duplicate NOT IN (0, 1) OR duplicate AND state NOT IN {_HAD}",
    "is being sent, and no attempt was begun": (
        f"state = {int(EventState.SENDING)} AND (attempts < 1 OR first_attempt_at IS NULL)"
    ),
    "is uncertain without an attempt": "uncertain NOT IN (0, 1) OR uncertain AND attempts < 1",
}


def check_shape(connection: sqlite3.Connection, found: Verification, progress: Progress) -> None:
    """Look at the types of all columns, and at what cannot be so of a meter event."""
    remedy = recovery(of_connection(connection))
    for done, table in enumerate(_TABLES):
        progress("types", done, len(_TABLES))
        wrong = _wrong_types(connection, table)
        if not wrong:
            continue
        (rows,) = connection.execute(f"SELECT count(*) FROM {table} WHERE {wrong}").fetchone()
        if rows:
            found.find("shape", table, f"{rows} rows hold values of another type than is written there", remedy)
    for where, what in wrong_words(connection):
        found.find("shape", where, what, remedy)
    for problem, condition in _RULES.items():
        for (event_id,) in connection.execute(f"SELECT event_id FROM meter_events WHERE {condition}"):
            found.find("shape", f"meter event {event_id}", problem, remedy)


def _wrong_types(connection: sqlite3.Connection, table: str) -> str:
    """SQL that is true for a row in which a column has another type than it was declared with."""
    wrong = []
    for _, name, declared, not_null, _, key in connection.execute(f"PRAGMA table_info({table})"):
        types = _TYPES.get(declared)
        if types is not None:
            empty = "" if not_null or key else f"{name} IS NOT NULL AND "
            wrong.append(f"({empty}typeof({name}) NOT IN {types})")
    return " OR ".join(wrong)
