"""The usage report: full UTC days of what is billed from their sums, the rest from its rows.

What is not billed is little, is found by indexes, and is never pruned, so it is read row by row whatever the time
asked for. Billed usage is read row by row only for days of which a part is asked for.
"""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from otel_usageflow.extensions.sqlite_storage import exact
from otel_usageflow.ledger.charge import DAY, first_key
from otel_usageflow.ledger.report import CORRECTION, STANDING_OF_EVENT, Standing, UsageLine
from otel_usageflow.ledger.states import EventState

_EVER = 100_000 * DAY
"""Later than anything, and nanoseconds of it still fit into 64 bits."""
_ACCEPTED = int(EventState.ACCEPTED)
_DAY = "iif(:by_day, {second} / 86400, -1) AS day"
_SUMS = f"sum({{requests}}) AS requests, {exact.columns('{quantity}')}"

# Of an amount that was told in parts, the worst part decides: it must not look billed while one is refused.
_WORST = """iif(e.parts = 1, e.{what}, (SELECT p.{what} FROM meter_events p
  WHERE p.event_id BETWEEN e.event_id AND e.event_id + e.parts - 1
  ORDER BY p.state = 2, p.state IN (0, 1), p.state = 4 LIMIT 1))"""
_BILLED = f"""iif(e.parts = 1, e.state = {_ACCEPTED}, e.parts = (SELECT count(*) FROM meter_events p
  WHERE p.state = {_ACCEPTED} AND p.event_id BETWEEN e.event_id AND e.event_id + e.parts - 1))"""
_LIVE = """WITH live AS (SELECT event_id - part AS first FROM meter_events WHERE state IN (0, 1)
                         UNION SELECT event_id - part FROM meter_events WHERE state IN (3, 4, 6, 7))"""


def _part(
    where: str, *, standing: str, customer: str = "NULL", reason: str = "NULL", given: str = "", **columns: str
) -> str:
    """A query for: who, day, customer, standing or state, reason, requests, and the sum in three columns.

    `columns` are the series, the second, the requests and the quantity in the rows that `where` names.
    """
    names = {"series": "w.series_id", "second": "w.start", "requests": "w.requests", "quantity": "w.total", **columns}
    return f"""{given}
      SELECT a.account, m.event_name, s.metadata_field, s.user, t.day, t.customer, t.standing, t.reason,
             t.requests, t.high, t.low, t.exact, a.book
      FROM (SELECT {names["series"]} AS series_id, {_DAY.format(**names)}, {customer} AS customer,
                   {standing} AS standing, {reason} AS reason, {_SUMS.format(**names)}
            {where} GROUP BY 1, 2, 3, 4, 5) t
      JOIN series s ON s.series_id = t.series_id JOIN meters m ON m.meter_id = s.meter_id
      JOIN accounts a ON a.account_id = m.account_id"""


_START = "w.start >= :since AND w.start < :until"
_OF_RECORD = {"series": "r.series_id", "second": "r.at_ns / 1000000000", "requests": "1", "quantity": "r.quantity"}
_OF_KEPT = {"series": "q.series_id", "second": "q.at_ns / 1000000000", "requests": "1", "quantity": "q.quantity"}
_KEPT = "q.at_ns >= :since * 1000000000 AND q.at_ns < :until * 1000000000"

_FULL_DAYS = _part(
    "FROM daily d WHERE d.day >= :first AND d.day < :last",
    customer="d.customer",
    standing=str(_ACCEPTED),
    series="d.series_id",
    second="d.day * 86400",
    requests="d.requests",
    quantity="d.total",
)
# Lengths stand first in the key of windows.
_BILLED_WINDOWS = _part(
    "FROM windows w LEFT JOIN meter_events e ON e.event_id = w.event_id "
    f"WHERE w.length IN ({{lengths}}) AND {_START} AND (w.event_id IN (0, -1) OR {_BILLED})",
    customer="e.customer",
    standing=str(_ACCEPTED),
)
_BILLED_RECORDS = _part(
    "FROM meter_events e JOIN records r ON r.key = e.record_key WHERE e.record_key IS NOT NULL "
    "AND (e.record_key >= :low AND e.record_key < :high OR "
    "e.record_key IN (SELECT key FROM stray_records WHERE at_s >= :since AND at_s < :until)) "
    f"AND r.at_ns >= :since * 1000000000 AND r.at_ns < :until * 1000000000 AND e.part = 0 AND {_BILLED}",
    customer="e.customer",
    standing=str(_ACCEPTED),
    **_OF_RECORD,
)
_NOT_BILLED = (
    _part(
        "FROM live JOIN meter_events e ON e.event_id = live.first "
        f"CROSS JOIN windows w ON w.event_id = live.first WHERE {_START}",
        customer="e.customer",
        standing=_WORST.format(what="state"),
        reason=_WORST.format(what="reason"),
        given=_LIVE,
    ),
    _part(
        "FROM live JOIN meter_events e ON e.event_id = live.first JOIN records r ON r.key = e.record_key "
        "WHERE r.at_ns >= :since * 1000000000 AND r.at_ns < :until * 1000000000",
        customer="e.customer",
        standing=_WORST.format(what="state"),
        reason=_WORST.format(what="reason"),
        given=_LIVE,
        **_OF_RECORD,
    ),
    _part(f"FROM windows w WHERE w.event_id = -2 AND {_START}", standing=f"'{Standing.DISCARDED}'"),
    _part(f"FROM open_windows w WHERE {_START}", standing=f"'{Standing.COLLECTING}'"),
    _part(f"FROM held_windows w WHERE {_START}", standing=f"'{Standing.QUARANTINED}'", reason="w.reason"),
    _part(
        f"FROM quarantine q WHERE q.resolved_at IS NULL AND {_KEPT}",
        standing=f"'{Standing.QUARANTINED}'",
        reason="q.reason",
        **_OF_KEPT,
    ),
    _part(
        f"FROM quarantine q WHERE q.resolution = 'discarded' AND {_KEPT}",
        standing=f"'{Standing.DISCARDED}'",
        reason="q.reason",
        **_OF_KEPT,
    ),
)
_CORRECTIONS = """
SELECT a.account, e.event_name, NULL, '', iif(:by_day, d.timestamp / 86400, -1), e.customer, e.state, :correction, 0,
       0, 0, d.quantity, a.book
FROM adjustments d JOIN meter_events e ON e.event_id = d.event_id JOIN accounts a ON a.account_id = e.account_id
WHERE d.timestamp >= :since AND d.timestamp < :until AND d.origin != 'reconcile'
"""


class Time(NamedTuple):
    """From `since` on and before `until`, unix seconds."""

    since: int
    until: int


def answerable(connection: sqlite3.Connection, since: float | None, until: float | None) -> Time:
    """The time that can be told for the one asked for: whole UTC days where single requests are pruned."""
    (pruned_to,) = connection.execute("SELECT pruned_to FROM ledger").fetchone()
    low, high = (-1 if since is None else int(since)), (_EVER if until is None else int(until))
    if 0 <= low < pruned_to:
        low -= low % DAY
    if high < pruned_to:
        high += -high % DAY
    return Time(low, high)


def lines(connection: sqlite3.Connection, time: Time, *, by_day: bool) -> list[UsageLine]:
    """The report, sorted. With `by_day` a line is of one UTC day."""
    merged: dict[tuple[Any, ...], UsageLine] = {}
    for row in _rows(connection, time, by_day):
        line = _line(row)
        before = merged.get(_place(line))
        if before is not None:  # further payload keys are not told apart
            line = line.plus(before)
        merged[_place(line)] = line
    kept = (line for line in merged.values() if line.requests or line.reason == CORRECTION)
    return sorted(kept, key=_place)


def _rows(connection: sqlite3.Connection, time: Time, by_day: bool) -> Iterator[tuple[Any, ...]]:
    asked: dict[str, Any] = {"since": time.since, "until": time.until, "by_day": by_day, "correction": CORRECTION}
    first, last = -(-time.since // DAY), time.until // DAY
    if first <= last:
        yield from connection.execute(_FULL_DAYS, {**asked, "first": first, "last": last})
        partial = [Time(max(time.since, 0), first * DAY), Time(last * DAY, min(time.until, _EVER))]
    else:
        partial = [time]
    lengths = _lengths(connection)
    for since, until in partial:
        if since < until:
            within = {**asked, "since": since, "until": until, "low": first_key(since), "high": first_key(until)}
            yield from connection.execute(_BILLED_WINDOWS.format(lengths=lengths), within)
            yield from connection.execute(_BILLED_RECORDS, within)
    for query in (*_NOT_BILLED, _CORRECTIONS):
        yield from connection.execute(query, asked)


def _lengths(connection: sqlite3.Connection) -> str:
    """The lengths that windows have, for SQL: a handful, found without reading the table."""
    found = [0]
    following = "SELECT min(length) FROM windows WHERE length > ?"
    while (length := connection.execute(following, (found[-1],)).fetchone()[0]) is not None:
        found.append(length)
    return ", ".join(map(str, found))


def _line(row: tuple[Any, ...]) -> UsageLine:
    account, event_name, field, user, day, customer, standing, reason, requests, high, low, text, book = row
    return UsageLine(
        account,
        event_name,
        field or None,
        user,
        customer or None,
        Standing(standing) if isinstance(standing, str) else STANDING_OF_EVENT[EventState(standing)],
        None if standing == _ACCEPTED and reason != CORRECTION else reason,
        requests,
        exact.total(high, low, text),
        None if day < 0 else datetime.fromtimestamp(day * DAY, UTC).date().isoformat(),
        book.rpartition(" ")[2],
    )


def _place(line: UsageLine) -> tuple[str, ...]:
    who = (line.account, line.event_name, line.metadata_field or "", line.user, line.customer or "")
    return (*who, line.day or "", line.standing, line.reason or "", line.mode)
