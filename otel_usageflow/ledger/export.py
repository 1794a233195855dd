"""What `ledger export` writes: the columns of each table, in order. docs/export.md has them, too; a test compares.

Quantities are decimal text everywhere, because no number type of JSON or Parquet holds every sum exactly. Moments are
microseconds since 1970 here; in JSON they are ISO 8601 in UTC, in Parquet timestamps.
"""

from enum import StrEnum


class What(StrEnum):
    """What can be exported."""

    USAGE = "usage"
    EVENTS = "events"
    AUDIT = "audit"
    QUARANTINE = "quarantine"
    CORRECTIONS = "corrections"


class Type(StrEnum):
    """How a column is written."""

    TEXT = "text"
    QUANTITY = "quantity"
    """Plain decimal text."""
    INTEGER = "integer"
    BOOLEAN = "boolean"
    MOMENT = "moment"
    JSON = "json"
    """JSON in itself; in Parquet as text."""


Columns = dict[str, Type]
_T, _Q, _I, _B, _M, _J = Type.TEXT, Type.QUANTITY, Type.INTEGER, Type.BOOLEAN, Type.MOMENT, Type.JSON

COLUMNS: dict[What, Columns] = {
    What.USAGE: {
        "trace_id": _T,
        "span_id": _T,
        "ended_at": _M,
        "account": _T,
        "event_name": _T,
        "policy": _T,
        "source": _T,
        "metadata_field": _T,
        "user": _T,
        "payload": _J,
        "quantity": _Q,
        "standing": _T,
        "reason": _T,
        "customer": _T,
        "identifier": _T,
        "window_start": _M,
        "window_seconds": _I,
    },
    What.EVENTS: {
        "event_id": _I,
        "identifier": _T,
        "account": _T,
        "event_name": _T,
        "customer": _T,
        "value": _Q,
        "timestamp": _M,
        "payload": _J,
        "requests": _I,
        "part": _I,
        "parts": _I,
        "state": _T,
        "attempts": _I,
        "uncertain": _B,
        "frozen_at": _M,
        "first_attempt_at": _M,
        "settled_at": _M,
        "duplicate": _B,
        "reason": _T,
        "code": _T,
        "message": _T,
        "request_id": _T,
        "trace_id": _T,
        "span_id": _T,
    },
    What.AUDIT: {
        "entry": _I,
        "at": _M,
        "actor": _T,
        "action": _T,
        "subject": _T,
        "before": _J,
        "after": _J,
        "why": _T,
        "hash": _T,
    },
    What.QUARANTINE: {
        "kind": _T,
        "reason": _T,
        "account": _T,
        "event_name": _T,
        "policy": _T,
        "metadata_field": _T,
        "user": _T,
        "customer": _T,
        "trace_id": _T,
        "span_id": _T,
        "identifier": _T,
        "requests": _I,
        "quantity": _Q,
        "at": _M,
        "quarantined_at": _M,
        "resolved_at": _M,
        "resolution": _T,
        "seen": _J,
        "code": _T,
        "message": _T,
    },
    What.CORRECTIONS: {
        "adjustment_id": _I,
        "account": _T,
        "event_name": _T,
        "customer": _T,
        "quantity": _Q,
        "timestamp": _M,
        "corrects": _T,
        "why": _T,
        "actor": _T,
        "asked_at": _M,
        "state": _T,
        "identifier": _T,
        "attempts": _I,
        "settled_at": _M,
        "message": _T,
    },
}
