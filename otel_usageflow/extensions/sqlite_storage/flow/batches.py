"""Batches of the stream: which events were sent in one call, written down before the call is made."""

import json
import secrets
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from otel_usageflow.extensions.sqlite_storage.flow import events
from otel_usageflow.ledger.batch import Member
from otel_usageflow.ledger.identifier import batch_key, batch_of
from otel_usageflow.model.meter_event import MeterEvent


class Sent(NamedTuple):
    """One call of the stream. `begun_at` is unix seconds; `members` are those of its events that are still kept."""

    batch_id: int
    account_id: int
    begun_at: float
    members: tuple[Member, ...]


def check_sum(*values: object) -> int:
    """Of batch id, account id, token, begin and events, as they are stored."""
    return crc32(repr(values).encode(errors="surrogateescape"))


def begin(connection: sqlite3.Connection, batches: Sequence[Sequence[MeterEvent]], now: float) -> list[str]:
    """Write down which events each call is about to carry; return the idempotency keys of the calls."""
    keys = []
    for batch in batches:
        token, ids = secrets.token_hex(8), json.dumps([event.event_id for event in batch])
        batch_id, account_id = connection.execute(
            "INSERT INTO stream_batches (account_id, token, begun_at, events, check_sum) "
            "VALUES ((SELECT account_id FROM meter_events WHERE event_id = ?), ?, ?, ?, 0) "
            "RETURNING batch_id, account_id",
            (batch[0].event_id, token, float(now), ids),
        ).fetchone()
        connection.execute(
            "UPDATE stream_batches SET check_sum = ? WHERE batch_id = ?",
            (check_sum(batch_id, account_id, token, float(now), ids), batch_id),
        )
        events.begin(connection, batch, now, batch_id)
        keys.append(batch_key(batch_id, token))
    return keys


def sent_with(connection: sqlite3.Connection, key: str) -> Sent | None:
    """What was sent with an idempotency key; None if this ledger has made no such call, or has forgotten it."""
    batch_id = batch_of(key)
    row = connection.execute(
        "SELECT account_id, token, begun_at, events, check_sum FROM stream_batches WHERE batch_id = ?", (batch_id,)
    ).fetchone()
    if row is None or batch_id is None or batch_key(batch_id, row[1]) != key:
        return None
    if check_sum(batch_id, *row[:4]) != row[4]:  # damaged: `ledger verify` tells, and nobody is named by it
        return None
    members = connection.execute(
        "SELECT event_id, event_name, customer FROM meter_events "
        "WHERE event_id IN (SELECT value FROM json_each(?)) ORDER BY event_id",
        (row[3],),
    )
    return Sent(batch_id, row[0], row[2], tuple(Member(*member) for member in members))


def identifier_then(connection: sqlite3.Connection, event_id: int, begun_at: float) -> str:
    """The identifier that an event had at a moment: the one of its next answer, or its present one."""
    row = connection.execute(
        """SELECT identifier FROM answers WHERE event_id = :event AND settled_at >= :at ORDER BY number LIMIT 1""",
        {"event": event_id, "at": begun_at},
    ).fetchone()
    if row is None:
        row = connection.execute("SELECT identifier FROM meter_events WHERE event_id = ?", (event_id,)).fetchone()
    return str(row[0])
