"""Checking what is kept besides the records to answer faster: totals by day, and the index by trace."""

import sqlite3
from collections.abc import Iterator

from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.verification import Progress, Verification
from otel_usageflow.model.usage import Quantity

_OLD = "compare with a backup and with `otel-usageflow reconcile`"
_Key = tuple[int, int, str]

# An amount that was told in several events is billed while all of them are accepted (2).
_ACCEPTED = """CASE WHEN e.parts = 1 THEN e.state = 2 ELSE e.parts = (SELECT count(*) FROM meter_events p
  WHERE p.state = 2 AND p.event_id BETWEEN e.event_id AND e.event_id + e.parts - 1) END"""
_SOURCES = (
    f"""SELECT w.start, w.series_id, e.customer, w.requests, w.total
        FROM windows w JOIN meter_events e ON e.event_id = w.event_id
        WHERE w.event_id > 0 AND w.requests > 0 AND w.start >= :since AND {_ACCEPTED}""",
    """SELECT w.start, w.series_id, '', w.requests, 0 FROM windows w
       WHERE w.event_id IN (0, -1) AND w.requests > 0 AND w.start >= :since""",
    f"""SELECT r.at_ns / 1000000000, r.series_id, e.customer, 1, r.quantity
        FROM meter_events e JOIN records r ON r.key = e.record_key
        WHERE e.record_key IS NOT NULL AND e.part = 0 AND r.at_ns >= :since * 1000000000 AND {_ACCEPTED}""",
)


def check_totals(connection: sqlite3.Connection, found: Verification, progress: Progress) -> None:
    """Count the days anew from their rows. Days that pruning has reached cannot be, and are left out."""
    (pruned_to,) = connection.execute("SELECT pruned_to FROM ledger").fetchone()
    first_day = -(-pruned_to // DAY)
    counted: dict[_Key, tuple[int, Quantity]] = {}
    for number, (key, requests, total) in enumerate(_rows(connection, first_day)):
        if number % 10_000 == 0:
            progress("totals by day", number, 0)
        before = counted.get(key, (0, 0))
        counted[key] = (before[0] + requests, amount.add(before[1], total))
    kept = {
        (day, series_id, customer): (requests, amount.restored(total))
        for day, series_id, customer, requests, total in connection.execute(
            "SELECT day, series_id, customer, requests, total FROM daily WHERE day >= ?", (first_day,)
        )
    }
    found.looked_at["daily_totals"] = len(kept)
    _check_slices(connection, found, progress)
    for key in sorted(kept.keys() | counted.keys()):
        said, real = kept.get(key, (0, 0)), counted.get(key, (0, 0))
        if said != real:
            day, series_id, customer = key
            where = f"day {day * DAY}, series {series_id}, customer {customer or 'nobody'}"
            problem = f"says {said[0]} requests and {said[1]}, and its rows are {real[0]} and {real[1]}"
            found.find(
                "totals", where, problem, "reports of usage by day are wrong there; bills are not made of them"
            )


def _check_slices(connection: sqlite3.Connection, found: Verification, progress: Progress) -> None:
    """Each slice of records is as it was when its index was made, and the index tells it."""
    slices = connection.execute("SELECT slice, records, digest FROM trace_slices WHERE records >= 0").fetchall()
    for done, (number, records, digest) in enumerate(slices):
        progress("digests of records", done, len(slices))
        found.looked_at["slices"] += 1
        made = trace_index.read(connection, number)
        entries = dict(connection.execute("SELECT bucket, entries FROM trace_index WHERE slice = ?", (number,)))
        where = f"requests from {number * trace_index.SLICE} to {(number + 1) * trace_index.SLICE}"
        if (made.records, made.digest) != (records, digest):
            problem = f"altered: {records} were there when they were read last, and {made.records} are there now"
            found.find(
                "totals", where, problem if made.records != records else "altered since they were read last", _OLD
            )
        elif {bucket: found_ for bucket, found_ in entries.items() if found_} != made.buckets:
            found.find(
                "totals", where, "the index by trace does not tell them", "`explain` may not find some of them"
            )


def _rows(connection: sqlite3.Connection, first_day: int) -> Iterator[tuple[_Key, int, Quantity]]:
    for source in _SOURCES:
        for second, series_id, customer, requests, total in connection.execute(source, {"since": first_day * DAY}):
            yield (second // DAY, series_id, customer), requests, amount.restored(total)
