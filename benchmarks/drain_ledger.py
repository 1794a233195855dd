"""A ledger with a backlog, built in seconds: usage that is frozen and was never sent, or that is not frozen yet."""

import os
import sqlite3
import time
from pathlib import Path

from otel_usageflow.extensions.sqlite_storage.file import open_for_writing
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.ledger.charge import MINUTE
from otel_usageflow.model.usage import Terms

BOOK = "stripe_meter live"
TERMS = Terms("chat", "api_request", "account_id")
_CHUNK = 50_000
_LENGTH = 10

_RECORDS = "INSERT INTO records VALUES (?, ?, 1, ?, 1, 1)"
_OPEN = "INSERT INTO open_windows VALUES (10, ?, ?, 1, 1, 1, 1, ?, 1, 0)"
_FROZEN = "INSERT INTO windows VALUES (10, ?, ?, 1, 1, 1, 1, ?, 1, ?)"
_EVENTS = """
INSERT INTO meter_events (event_id, account_id, event_name, customer, payload, value, timestamp, identifier,
  idempotency_key, requests, parts, state, frozen_at)
VALUES (?1, 1, 'api_request', ?2, '', '1', ?3, ?4, ?4, 1, 1, 0, ?5)
"""


def build(directory: Path, events: int, customers: list[str], *, frozen: bool, end: int, book: str = BOOK) -> float:
    """Fill a ledger with `events` of quantity 1, all ended before `end` (unix seconds); return seconds that it took.

    The customers, with the metadata `account_id: user-N` each, use something every minute, one after the other.
    """
    began = time.perf_counter()
    directory.mkdir(parents=True)
    connection = open_for_writing(directory)
    connection.execute("PRAGMA synchronous = OFF")
    _with_names(connection, len(customers), book)
    minutes = -(-events // len(customers))
    first = end // MINUTE * MINUTE - minutes * MINUTE
    for low in range(0, events, _CHUNK):
        rows = range(low, min(low + _CHUNK, events))
        places = [(first + n // len(customers) * MINUTE + n % 6 * _LENGTH, n % len(customers)) for n in rows]
        noise = os.urandom(24 * len(rows))
        connection.execute("BEGIN IMMEDIATE")
        keys = [(start.to_bytes(4, "big") + noise[24 * i : 24 * i + 24]) for i, (start, _) in enumerate(places)]
        connection.executemany(
            _RECORDS,
            sorted(
                (key + b"\0\0\0\1", who + 1, start * 10**9) for key, (start, who) in zip(keys, places, strict=True)
            ),
        )
        if frozen:
            connection.executemany(
                _EVENTS,
                [
                    (n + 1, customers[who], start, f"uf_s{n + 1:x}_{os.urandom(20).hex()}", start + 70.0)
                    for n, (start, who) in zip(rows, places, strict=True)
                ],
            )
            connection.executemany(
                _FROZEN,
                [(start, who + 1, start * 10**9, n + 1) for n, (start, who) in zip(rows, places, strict=True)],
            )
        else:
            connection.executemany(_OPEN, [(start, who + 1, start * 10**9) for start, who in places])
        connection.execute("COMMIT")
    connection.execute("UPDATE ledger SET seq = 2")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return time.perf_counter() - began


def _with_names(connection: sqlite3.Connection, customers: int, book: str) -> None:
    """Account 1, meter 1, origin 1, and a series for each customer, in order."""
    names = Names(book)
    meter = names.meter(connection, "", TERMS.event_name)
    assert names.origin(connection, TERMS.policy, "header x-account-id") == 1
    connection.execute("BEGIN IMMEDIATE")
    for number in range(customers):
        assert names.series(connection, meter, TERMS, f"user-{number}", ()) == number + 1
    connection.execute("COMMIT")
