"""Billed usage by day, as the ledger keeps it, and counted anew from its rows in the plainest way."""

import sqlite3
from collections import Counter
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from otel_usageflow.ledger.states import EventState

Days = dict[tuple[int, int, str], tuple[int, Decimal]]
"""(day, series, customer) -> (requests, quantity)."""


def kept_by_day(directory: Path, since: int = 0) -> Days:
    """What the table says, from this day on."""
    with closing(sqlite3.connect(directory / "ledger.db")) as connection:
        rows = connection.execute("SELECT day, series_id, customer, requests, total FROM daily").fetchall()
    return {
        (day, series, who): (requests, Decimal(total)) for day, series, who, requests, total in rows if day >= since
    }


def counted_by_day(directory: Path, since: int = 0) -> Days:
    """What the windows, records and meter events say, from this day on."""
    with closing(sqlite3.connect(directory / "ledger.db")) as connection:
        events = connection.execute(
            "SELECT event_id, part, parts, state, customer, record_key FROM meter_events"
        ).fetchall()
        windows = connection.execute("SELECT event_id, start, series_id, requests, total FROM windows").fetchall()
        records = {
            key: rest for key, *rest in connection.execute("SELECT key, at_ns, series_id, quantity FROM records")
        }
    accepted: Counter[int] = Counter()
    for event_id, part, _, state, _, _ in events:
        accepted[event_id - part] += state == EventState.ACCEPTED
    billed = {e[0]: e for e in events if e[1] == 0 and accepted[e[0]] == e[2]}
    found = []
    for event_id, start, series, requests, total in windows:
        if event_id in (0, -1):
            found.append((start, series, "", requests, Decimal(0)))
        elif event_id in billed:
            found.append((start, series, billed[event_id][4], requests, Decimal(total)))
    for *_, customer, key in billed.values():
        if key is not None:
            at_ns, series, quantity = records[key]
            found.append((at_ns // 10**9, series, customer, 1, Decimal(quantity)))
    days: Days = {}
    for second, series, customer, requests, total in found:
        day = second // 86_400
        if requests and day >= since:
            before = days.get((day, series, customer), (0, Decimal(0)))
            days[day, series, customer] = (before[0] + requests, before[1] + total)
    return days
