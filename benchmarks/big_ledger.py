"""A ledger of millions of records, built in minutes: the rows are those that the service writes, in bulk.

Users come in bursts: in a minute some 40 of 2,000 customers, the busy ones more often, make some ten requests each.
All usage is settled. Traffic is the same all day long, which is the worst case for nothing in particular.
"""

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from otel_usageflow.extensions.sqlite_storage.file import open_for_writing
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.ledger.charge import DAY, MINUTE
from otel_usageflow.model.usage import Terms

BOOK = "stripe_meter benchmark"
TERMS = Terms("chat", "api_request", "account_id")
USERS = 2_000
DAYS = 35
_ACTIVE = 40
_WINDOW = 10

_WINDOWS = """
INSERT INTO windows SELECT 10, at_ns / 10000000000 * 10, series_id, min(seq), max(seq), count(*), sum(quantity),
  max(at_ns), 1, 0 FROM records WHERE key >= ? AND key < ? GROUP BY 2, 3
"""
_EVENTS = """
INSERT INTO meter_events (account_id, event_name, customer, payload, value, timestamp, identifier, idempotency_key,
  requests, parts, state, attempts, frozen_at, first_attempt_at, settled_at, request_id)
SELECT 1, 'api_request', 'cus_' || printf('%014d', series_id), '', CAST(sum(total) AS TEXT),
  max(last_ns) / 1000000000,
  CAST(series_id AS TEXT), '', sum(requests), 1, 2, 1, min(start) + 70, min(start) + 70.2, min(start) + 70.4,
  'req_' || min(start)
FROM windows WHERE length = 10 AND start >= ? AND start < ? GROUP BY start / 60, series_id
"""
_DAILY = """
INSERT INTO daily SELECT w.start / 86400, w.series_id, e.customer, sum(w.requests), sum(w.total)
FROM windows w JOIN meter_events e USING (event_id) GROUP BY 1, 2, 3
"""


def build(directory: Path, records: int, end: int, book: str = BOOK) -> float:
    """Fill a ledger with `records` that end at `end`, unix seconds; return how many seconds it took."""
    began = time.perf_counter()
    directory.mkdir(parents=True)
    connection = open_for_writing(directory)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA wal_autocheckpoint = 20000")
    with_names(connection, book)
    start = (end - DAYS * DAY) // MINUTE * MINUTE
    a_minute = records / (DAYS * DAY / MINUTE)
    done = 0
    for number, chunk in enumerate(_chunks(start, a_minute)):
        low, high = start + number * 3_600, start + (number + 1) * 3_600
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR IGNORE INTO records VALUES (?, ?, 1, ?, ?, ?)", chunk)
        keys = (low.to_bytes(4, "big"), high.to_bytes(4, "big"))
        connection.execute(_WINDOWS, keys)
        (last,) = connection.execute("SELECT coalesce(max(event_id), 0) FROM meter_events").fetchone()
        connection.execute(_EVENTS, (low, high))
        _cover(connection, last, low, high)
        connection.execute("UPDATE ledger SET seq = ?", (number * 60 + 60,))
        connection.execute("COMMIT")
        done += len(chunk)
        if number % 24 == 23:
            print(f"\r  {done:,} records, {time.perf_counter() - began:.0f} s", end="", flush=True)
    connection.execute(_DAILY)
    print(f"\r  {done:,} records, {time.perf_counter() - began:.0f} s")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return time.perf_counter() - began


def index(directory: Path) -> tuple[int, float]:
    """Make the index of traces without any rest; return the number of slices and the seconds that it took."""
    connection = open_for_writing(directory)
    connection.execute("PRAGMA synchronous = OFF")
    began, slices = time.perf_counter(), 0
    for number in list(trace_index.missing(connection, set())):
        connection.execute("BEGIN IMMEDIATE")
        trace_index.claim(connection, number)
        made = trace_index.read(connection, number)
        trace_index.write(connection, number, made.buckets.items())
        trace_index.finish(connection, number, made)
        connection.execute("COMMIT")
        slices += 1
    took = time.perf_counter() - began
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return slices, took


def with_names(connection: sqlite3.Connection, book: str = BOOK) -> None:
    """Account 1, meter 1, origin 1, and series 1 to `USERS`, with their customers."""
    names = Names(book)
    meter = names.meter(connection, "", TERMS.event_name)
    assert names.origin(connection, TERMS.policy, "header x-account-id") == 1
    for number in range(1, USERS + 1):
        assert names.series(connection, meter, TERMS, f"user-{number}", ()) == number
        values = (1, "account_id", f"user-{number}", f"cus_{number:014d}", 1)
        connection.execute("INSERT INTO customers VALUES (?, ?, ?, ?, ?)", values)


def _chunks(start: int, a_minute: float) -> Iterator[list[tuple[bytes, int, int, int, int]]]:
    """The records of one hour after the other."""
    chance = random.Random(1)
    weights = list(accumulate(1 / rank for rank in range(1, USERS + 1)))
    owed = 0.0
    for hour in range(DAYS * 24):
        rows: list[tuple[bytes, int, int, int, int]] = []
        for minute in range(60):
            begin = start + hour * 3_600 + minute * 60
            owed += a_minute
            active = set(chance.choices(range(1, USERS + 1), cum_weights=weights, k=_ACTIVE))
            of_minute = []
            each = owed / len(active)
            noise = os.urandom(24 * (int(owed) + 1))
            made = 0
            for number, user in enumerate(active, 1):
                burst = begin + chance.randrange(45)
                while made < int(each * number):
                    ended = burst * 10**9 + chance.randrange(15 * 10**9)
                    key = (ended // 10**9).to_bytes(4, "big") + noise[made * 24 : made * 24 + 24] + b"\0\0\0\1"
                    of_minute.append((key, user, ended, 1, hour * 60 + minute + 1))
                    made += 1
            owed -= made
            rows += sorted(of_minute)
        yield rows


def _cover(connection: sqlite3.Connection, last: int, low: int, high: int) -> None:
    """Let the windows of an hour name their events, and give those their identifiers."""
    events = connection.execute(
        "SELECT event_id, timestamp / 60, identifier FROM meter_events WHERE event_id > ?", (last,)
    ).fetchall()
    place = {(minute, int(series)): event_id for event_id, minute, series in events}
    windows = connection.execute(
        "SELECT start, series_id, first_seq FROM windows WHERE length = 10 AND start >= ? AND start < ?", (low, high)
    ).fetchall()
    connection.executemany(
        "UPDATE windows SET event_id = ? WHERE length = 10 AND start = ? AND series_id = ? AND first_seq = ?",
        [(place[start // 60, series], start, series, first) for start, series, first in windows],
    )
    names = [(f"uf_s{event_id:x}_{os.urandom(20).hex()}", event_id) for event_id, *_ in events]
    connection.executemany("UPDATE meter_events SET identifier = ?1, idempotency_key = ?1 WHERE event_id = ?2", names)
