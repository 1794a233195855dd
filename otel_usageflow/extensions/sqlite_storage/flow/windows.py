"""Freezing: due windows are read, decided about by `ledger/freeze.py`, and moved to where they then belong."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace

from otel_usageflow.extensions.sqlite_storage.flow import daily, events
from otel_usageflow.extensions.sqlite_storage.flow.lookup import Lookup
from otel_usageflow.extensions.sqlite_storage.proof import copies
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import MINUTE, first_key
from otel_usageflow.ledger.freeze import (
    Customers,
    DueWindow,
    FiledRecord,
    Formula,
    FreezeRules,
    Lane,
    Plan,
    draft_records,
    makes_event,
    plan,
)
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.usage import Reason

DISCARDED = -2
"""In place of an event id: somebody decided that the window is not billed."""
ONE_BY_ONE = -1
"""In place of an event id: the window's records have events of their own, but for those that count as nothing."""

_PAGE = 500
_MOST_PAGES = 40
"""Windows looked at in one go: 20,000, so that freezing never keeps commits waiting for long."""

_DUE = """
SELECT a.account, m.event_name, s.metadata_field, s.user, s.payload, w.series_id, w.start, w.length,
       w.first_seq, w.last_seq, w.requests, w.total, w.last_ns, w.last_value
FROM open_windows w JOIN series s USING (series_id) JOIN meters m USING (meter_id) JOIN accounts a USING (account_id)
WHERE w.length = ? AND w.start <= ? AND (w.start, w.series_id, w.first_seq) > (?, ?, ?) AND s.meter_id IN ({meters})
ORDER BY w.start, w.series_id, w.first_seq LIMIT ?
"""
_PLACE = "WHERE length = ? AND start = ? AND series_id = ? AND first_seq = ?"
_COLUMNS = "length, start, series_id, first_seq, last_seq, requests, total, last_ns, last_value"

Place = tuple[int, int, int]
"""Start, series and first commit: where a window stands among those of its length."""


def freeze(
    connection: sqlite3.Connection,
    book: str,
    rules: FreezeRules,
    limit: int,
    resume: dict[int, Place],
    lookup: Lookup,
) -> list[MeterEvent]:
    """Freeze due windows into at most about `limit` meter events, and with `rules.fresh` some more of fresh usage.

    With `one_by_one`, windows of one second are due as soon as they hold something. `resume` is kept for the caller
    between two calls: where to go on when more windows wait for their lanes than are looked at in one go. Without
    it, the ones behind them would never have their turn.
    """
    frozen: list[MeterEvent] = []
    taken: set[Lane] = set()
    copied_seq, copied_at = copies.copied(connection)
    rules = replace(_excluding(rules, taken), copied_seq=copied_seq)
    fresh = rules.fresh
    before = None if fresh is None else fresh.since - 1
    left = limit

    def some(length: int, asked: FreezeRules, since: int, until: int, most: int, kept: int | None) -> int:
        """Freeze windows of one length that start in [since, until]; return how many meter events there are."""
        meters = _meters(connection, book, asked)
        place = (since - 1, 0, 0)
        behind = place if kept is None else resume.pop(kept, place)
        made_now = 0
        pages = _MOST_PAGES + (behind > place)  # the first is always looked at: what is oldest goes first
        for page in range(pages):
            if made_now >= most or not meters:
                break
            rows = connection.execute(_DUE.format(meters=meters), (length, until, *place, _PAGE)).fetchall()
            windows = [_window(row) for row in rows]
            made = plan(windows, _customers(connection, lookup, windows), asked)
            new = _write(connection, book, made, asked, copied_at, most - made_now)
            made_now += len(new)
            frozen.extend(new)
            taken.update(event.lane for event in new)
            if len(rows) < _PAGE or (made_now and not new):
                break  # what is older goes first: the windows behind wait for lanes that have had their turn
            place = max(behind, (windows[-1].start, windows[-1].series_id, windows[-1].first_seq))
            if page == pages - 1 and kept is not None:
                resume[kept] = place
        return made_now

    for length in _lengths(connection):
        latest = int(rules.now) - (0 if rules.one_by_one and length == 1 else length)
        if fresh is None or before is None:
            left -= some(length, rules, 0, latest, left, length)
            continue
        in_order, summed = _by_order(rules)
        recent = replace(_by_order(replace(rules, meters=fresh.meters))[1], busy=fresh.busy)
        some(length, _excluding(recent, taken), fresh.since, latest, fresh.limit, None)
        left -= some(length, in_order, 0, latest, left, -length)
        left -= some(length, summed, 0, min(before, latest), left, length)
    if frozen:
        reached("freeze: written")
    return frozen


def _by_order(rules: FreezeRules) -> tuple[FreezeRules, FreezeRules]:
    """The rules for meters that take usage in its order only, as the last value counts, and those for others."""
    last = {meter: how for meter, how in rules.meters.items() if how is Formula.LAST}
    others = {meter: how for meter, how in rules.meters.items() if how is not Formula.LAST}
    return replace(rules, meters=last), replace(rules, meters=others)


def seal(connection: sqlite3.Connection, book: str, length: int) -> None:
    """Let the windows that other lengths left open take no more records.

    Otherwise, after the length was changed and changed back, one window's commits would span those of another, and
    a record could be found in both.
    """
    connection.execute(
        "UPDATE open_windows SET sealed = 1 WHERE length != ? AND sealed = 0 AND series_id IN (SELECT series_id "
        "FROM series JOIN meters USING (meter_id) JOIN accounts USING (account_id) WHERE book = ?)",
        (length, book),
    )


def _lengths(connection: sqlite3.Connection) -> list[int]:
    lengths: list[int] = []
    following = "SELECT min(length) FROM open_windows WHERE length > ?"
    while (length := connection.execute(following, (lengths[-1] if lengths else 0,)).fetchone()[0]) is not None:
        lengths.append(length)
    return lengths


def _meters(connection: sqlite3.Connection, book: str, rules: FreezeRules) -> str:
    """The numbers of the meters that something can be decided about now, for SQL."""
    known = connection.execute(
        "SELECT meter_id, account, event_name FROM meters JOIN accounts USING (account_id) WHERE book = ?", (book,)
    )
    return ", ".join(str(number) for number, *meter in known if tuple(meter) in rules.meters)


def _excluding(rules: FreezeRules, taken: set[Lane]) -> FreezeRules:
    """The rules, with the lanes that got an event in this call counted as busy."""
    return replace(rules, busy=lambda lane: lane in taken or rules.busy(lane))


def _window(row: Sequence[object]) -> DueWindow:
    window = DueWindow(*row)  # type: ignore[arg-type]
    return window._replace(
        metadata_field=window.metadata_field or None,
        total=amount.restored(window.total),  # type: ignore[arg-type]
        last_value=amount.restored(window.last_value),  # type: ignore[arg-type]
    )


def _customers(connection: sqlite3.Connection, lookup: Lookup, windows: Iterable[DueWindow]) -> Customers:
    """What the directory says about the users of these windows."""
    return lookup.customers(
        connection, {(w.account, w.metadata_field, w.user) for w in windows if w.metadata_field is not None}
    )


def _write(
    connection: sqlite3.Connection, book: str, made: Plan, rules: FreezeRules, copied_at: float, limit: int
) -> list[MeterEvent]:
    """Write a plan down; windows of many records wait when there are events enough."""
    frozen: list[MeterEvent] = []
    now = rules.now
    for draft in made.drafts:
        event = events.write(connection, book, draft, now)
        if draft.perhaps_sent:
            copies.as_unknown(connection, event, copied_at, now)
        else:
            frozen.append(event)
        _archive(connection, draft.windows, event.event_id)
    _archive(connection, made.zero, 0)
    daily.count_nothing(connection, ((w.start, w.series_id, w.requests) for w in made.zero), 1)
    for lane, window, formula in made.one_by_one:
        if len(frozen) >= limit:
            break
        records = _records(connection, window)
        drafts = draft_records(lane, window, records, formula)
        new = [events.write(connection, book, draft, now) for draft in drafts]
        if window.last_seq <= rules.copied_seq:
            new = _perhaps_sent(connection, new, copied_at, now)
        frozen.extend(new)
        _archive(connection, [window], ONE_BY_ONE)
        without_event = sum(not makes_event(record, formula) for record in records)
        connection.execute(
            f"UPDATE windows SET requests = ?, total = 0 {_PLACE}",
            (without_event, window.length, window.start, window.series_id, window.first_seq),
        )
        daily.count_nothing(connection, [(window.start, window.series_id, without_event)], 1)
    for window, reason in made.held:
        hold(connection, window, reason, now)
    return frozen


def _perhaps_sent(
    connection: sqlite3.Connection, new: Sequence[MeterEvent], copied_at: float, now: float
) -> list[MeterEvent]:
    """Mark events of single records that were in a copy; return those that may be sent again."""
    if not copies.has_streamed(connection):
        return [copies.as_uncertain(connection, event, copied_at) for event in new]
    for event in new:
        copies.as_unknown(connection, event, copied_at, now)
    return []


def _archive(connection: sqlite3.Connection, windows: Iterable[DueWindow], event_id: int) -> None:
    places = [(w.length, w.start, w.series_id, w.first_seq) for w in windows]
    connection.executemany(
        f"INSERT INTO windows SELECT {_COLUMNS}, {int(event_id)} FROM open_windows {_PLACE}", places
    )
    connection.executemany(f"DELETE FROM open_windows {_PLACE}", places)


def hold(connection: sqlite3.Connection, window: DueWindow, reason: Reason, now: float) -> None:
    """Set an open window aside until something appears in Stripe."""
    place = (window.length, window.start, window.series_id, window.first_seq)
    connection.execute(
        f"INSERT INTO held_windows ({_COLUMNS}, reason, held_at) SELECT {_COLUMNS}, ?, ? FROM open_windows {_PLACE}",
        (reason, now, *place),
    )
    connection.execute(f"DELETE FROM open_windows {_PLACE}", place)


def reopen(connection: sqlite3.Connection, series_id: int, reasons: Sequence[Reason]) -> None:
    """Open the windows of a series that were held for one of these reasons."""
    marks = ", ".join("?" * len(reasons))
    which = f"WHERE series_id = ? AND reason IN ({marks})"
    connection.execute(
        f"INSERT INTO open_windows ({_COLUMNS}, sealed) SELECT {_COLUMNS}, 1 FROM held_windows {which}",
        (series_id, *reasons),
    )
    connection.execute(f"DELETE FROM held_windows {which}", (series_id, *reasons))


def reopen_one(connection: sqlite3.Connection, place: tuple[int, int, int, int]) -> None:
    """Open one held window: length, start, series, first commit."""
    connection.execute(
        f"INSERT INTO open_windows ({_COLUMNS}, sealed) SELECT {_COLUMNS}, 1 FROM held_windows {_PLACE}", place
    )
    connection.execute(f"DELETE FROM held_windows {_PLACE}", place)


def discard_one(connection: sqlite3.Connection, place: tuple[int, int, int, int]) -> None:
    """Set one held window aside for good: nobody is billed for it."""
    connection.execute(f"INSERT INTO windows SELECT {_COLUMNS}, {DISCARDED} FROM held_windows {_PLACE}", place)
    connection.execute(f"DELETE FROM held_windows {_PLACE}", place)


def seal_series(connection: sqlite3.Connection, series_id: int, second: int) -> None:
    """Let the windows of a series around a second take no more records.

    To be done before records are put there out of turn, in a window of their own: the commits of a window that went
    on collecting would span theirs.
    """
    for length in _lengths(connection):
        connection.execute(
            "UPDATE open_windows SET sealed = 1 WHERE length = ? AND start > ? AND start <= ? AND series_id = ?",
            (length, second - MINUTE, second, series_id),
        )


def _records(connection: sqlite3.Connection, window: DueWindow) -> list[FiledRecord]:
    """The records of a window that have no meter event of their own yet, or only such as came back."""
    low, high = first_key(window.start), first_key(window.start + window.length)
    rows = connection.execute(
        f"""
        SELECT key, at_ns, quantity FROM records
        WHERE (key >= ? AND key < ? OR key IN (SELECT key FROM stray_records WHERE at_s >= ? AND at_s < ?))
          AND series_id = ? AND seq BETWEEN ? AND ? AND at_ns >= ? AND at_ns < ? AND quantity IS NOT NULL
          AND NOT EXISTS (SELECT 1 FROM meter_events WHERE record_key = key AND state != {int(EventState.RETURNED)})
        """,
        (
            low,
            high,
            window.start,
            window.start + window.length,
            window.series_id,
            window.first_seq,
            window.last_seq,
            window.start * 1_000_000_000,
            (window.start + window.length) * 1_000_000_000,
        ),
    )
    return [FiledRecord(key, at_ns, amount.restored(quantity)) for key, at_ns, quantity in rows]
