"""Refiling: held usage is put under the terms that its policy has now. The same requests, the same quantities.

Where only the metadata field is another one, a charge keeps its key and changes its series. Where the event name or
the account is, its key is another one too: the charge is filed under that, and the old row stays without a quantity,
so that a span is known whichever of the two it would be billed under when it comes again.
"""

import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from otel_usageflow.extensions.sqlite_storage.flow import nesting, request_ids, windows
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.extensions.sqlite_storage.quarantine import decisions
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.audit import SERVICE, Change
from otel_usageflow.ledger.charge import first_key
from otel_usageflow.ledger.refile import Present
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.usage import Quantity, Reason, Terms

HELD_FOR = (Reason.NO_CUSTOMER, Reason.AMBIGUOUS_CUSTOMER, Reason.NO_METER)

_MOST_SECONDS = 0.02
"""After which a step ends: commits wait for it."""
_SECOND = 1_000_000_000
# From series to series along the index: a user may have a million held windows.
_HELD_SERIES = """
WITH RECURSIVE held(series_id) AS (
  SELECT (SELECT min(series_id) FROM held_windows WHERE reason = :reason)
  UNION ALL
  SELECT (SELECT min(h.series_id) FROM held_windows h WHERE h.reason = :reason AND h.series_id > held.series_id)
  FROM held WHERE series_id IS NOT NULL
)
SELECT series_id, a.account, m.event_name, s.metadata_field, p.policy
FROM held JOIN series s USING (series_id) JOIN meters m USING (meter_id) JOIN accounts a USING (account_id)
JOIN series_policies p USING (series_id) WHERE a.book = :book
"""
_COLUMNS = "length, start, series_id, first_seq, last_seq, requests, total, last_ns, last_value"
_PLACE = "length = ? AND start = ? AND series_id = ? AND first_seq = ?"
_RECORDS = f"""
SELECT r.key, r.at_ns, r.quantity, r.origin_id, o.policy,
  EXISTS (SELECT 1 FROM meter_events e WHERE e.record_key = r.key AND e.state != {int(EventState.RETURNED)})
FROM records r JOIN origins o USING (origin_id)
WHERE (r.key >= :low AND r.key < :high
       OR r.key IN (SELECT key FROM stray_records WHERE at_s >= :start AND at_s < :end))
  AND r.series_id = :series AND r.seq BETWEEN :first AND :last AND r.quantity IS NOT NULL
  AND r.at_ns >= :start * {_SECOND} AND r.at_ns < :end * {_SECOND}
"""


class _Held(NamedTuple):
    length: int
    start: int
    series_id: int
    first_seq: int
    last_seq: int
    requests: int
    total: Quantity


class _Charge(NamedTuple):
    key: bytes
    at_ns: int
    quantity: Quantity
    origin_id: int
    policy: str
    told: bool
    """It has a meter event of its own, and is in its window for the record only."""


def candidates(connection: sqlite3.Connection, book: str, present: Present) -> list[int]:
    """The series that hold usage which belongs under other terms by now."""
    found = set()
    for reason in HELD_FOR:
        for series_id, account, event_name, field, policy in connection.execute(
            _HELD_SERIES, {"reason": reason, "book": book}
        ):
            if present.target((account, event_name, field or None), policy) is not None:
                found.add(series_id)
    return sorted(found)


def step(
    connection: sqlite3.Connection,
    names: Names,
    series_id: int,
    after: tuple[int, int, int],
    present: Present,
    now: float,
) -> tuple[int, tuple[int, int, int] | None]:
    """Refile the next held windows of a series, for some milliseconds.

    Returns:
        How many requests were refiled, and the window to go on after: its length, start and first commit; None when
        that was the last.
    """
    until = time.monotonic() + _MOST_SECONDS
    user, field, payload, meter_id, event_name, account = connection.execute(
        """SELECT user, metadata_field, payload, meter_id, event_name, account
           FROM series JOIN meters USING (meter_id) JOIN accounts USING (account_id) WHERE series_id = ?""",
        (series_id,),
    ).fetchone()
    old = (account, event_name, field or None)
    moved: dict[str, list[_Charge]] = defaultdict(list)
    place: tuple[int, int, int] | None = after
    while place is not None and time.monotonic() < until:
        window = _next(connection, series_id, place)
        place = None if window is None else (window.length, window.start, window.first_seq)
        if window is None:
            break
        for policy, charges in _split(connection, window, old, present).items():
            target = present.target(old, policy)
            assert target is not None  # _split has asked
            _move(connection, names, window, charges, target, (meter_id, user, payload), now)
            moved[policy].extend(charges)
    for policy, charges in moved.items():
        if (target := present.target(old, policy)) is not None:
            _tell(connection, policy, old, target, charges, now)
    if moved:
        reached("refile: written")
    return sum(map(len, moved.values())), place


def _next(connection: sqlite3.Connection, series_id: int, after: tuple[int, int, int]) -> _Held | None:
    marks = ", ".join("?" * len(HELD_FOR))
    row = connection.execute(
        f"""SELECT length, start, series_id, first_seq, last_seq, requests, total FROM held_windows
            WHERE series_id = ? AND (length, start, first_seq) > (?, ?, ?) AND reason IN ({marks})
            ORDER BY length, start, first_seq LIMIT 1""",
        (series_id, *after, *HELD_FOR),
    ).fetchone()
    return None if row is None else _Held(*row)._replace(total=amount.restored(row[6]))


def _split(
    connection: sqlite3.Connection, window: _Held, old: tuple[str, str, str | None], present: Present
) -> dict[str, list[_Charge]]:
    """What of a window is to be refiled, by policy; the rest stays, and the window tells of the rest only."""
    rows = connection.execute(
        _RECORDS,
        {
            "low": first_key(window.start),
            "high": first_key(window.start + window.length),
            "start": window.start,
            "end": window.start + window.length,
            "series": window.series_id,
            "first": window.first_seq,
            "last": window.last_seq,
        },
    ).fetchall()
    charges = [_Charge(key, at_ns, amount.restored(quantity), *more) for key, at_ns, quantity, *more in rows]
    waiting = [charge for charge in charges if not charge.told]
    if (len(waiting), _sum(waiting)) != (window.requests, window.total):
        return {}  # its requests were pruned, or somebody must look: nothing is guessed
    going: dict[str, list[_Charge]] = defaultdict(list)
    for charge in waiting:
        if present.target(old, charge.policy) is not None:
            going[charge.policy].append(charge)
    if going:
        gone = {charge.key for leaving in going.values() for charge in leaving}
        _shrink(connection, window, [charge for charge in charges if charge.key not in gone])
    return going


def _shrink(connection: sqlite3.Connection, window: _Held, left: list[_Charge]) -> None:
    """Let a window tell of what is left in it; with nothing left that waits it is done."""
    place = (window.length, window.start, window.series_id, window.first_seq)
    staying = [charge for charge in left if not charge.told]
    if left:
        last = max(left, key=lambda charge: (charge.at_ns, charge.key))
        connection.execute(
            f"UPDATE held_windows SET requests = ?, total = ?, last_ns = ?, last_value = ? WHERE {_PLACE}",
            (len(staying), amount.stored(_sum(staying)), last.at_ns, amount.stored(last.quantity), *place),
        )
    if left and not staying:
        connection.execute(
            f"INSERT INTO windows SELECT {_COLUMNS}, {windows.ONE_BY_ONE} FROM held_windows WHERE {_PLACE}", place
        )
    if not staying:
        connection.execute(f"DELETE FROM held_windows WHERE {_PLACE}", place)


def _move(
    connection: sqlite3.Connection,
    names: Names,
    window: _Held,
    charges: list[_Charge],
    target: Terms,
    old: tuple[int, str, str],
    now: float,
) -> None:
    """Put charges under other terms, into a window of their own that takes no more records."""
    meter_id, user, payload = old
    new_meter = names.meter(connection, target.account or "", target.event_name)
    keys = tuple(sorted(json.loads(payload).items())) if payload else ()
    series_id = names.series(connection, new_meter, target, user, keys)
    (seq,) = connection.execute("UPDATE ledger SET seq = seq + 1 RETURNING seq").fetchone()
    filed: list[_Charge] = []
    for charge in charges:
        if new_meter == meter_id:
            connection.execute(
                "UPDATE records SET series_id = ?, seq = ? WHERE key = ?", (series_id, seq, charge.key)
            )
            filed.append(charge)
        else:
            key = charge.key[:28] + new_meter.to_bytes(4, "big")
            place = (key, series_id, seq)
            if _counts(connection, charge, place, now) and _file(connection, key, charge, series_id, seq, now):
                filed.append(charge)
            _leave(connection, charge.key, key)
    trace_index.outdate(connection, [charge.key for charge in charges])
    if not filed:
        return
    for second in {window.start, window.start + window.length - 1}:
        windows.seal_series(connection, series_id, second)
    last = max(filed, key=lambda charge: (charge.at_ns, charge.key))
    connection.execute(
        f"INSERT INTO open_windows ({_COLUMNS}, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
        (
            window.length,
            window.start,
            series_id,
            seq,
            seq,
            len(filed),
            amount.stored(_sum(filed)),
            last.at_ns,
            amount.stored(last.quantity),
        ),
    )


def _counts(connection: sqlite3.Connection, charge: _Charge, place: tuple[bytes, int, int], now: float) -> bool:
    """Whether no other charge counts there for a request with the same id."""
    key, series_id, seq = place
    moved = request_ids.Arrival(key, b"", series_id, charge.origin_id, charge.at_ns, charge.quantity, billable=True)
    return request_ids.refile(
        connection, charge.key, moved, seq, now, lambda other: nesting.take_back(connection, other)
    )


def _file(connection: sqlite3.Connection, key: bytes, charge: _Charge, series_id: int, seq: int, now: float) -> bool:
    """File a charge under another key; False if it is there: its span came again after the policy was mended.

    A row that is there because the charge was once refiled from that very key comes back to life.
    """
    quantity = amount.stored(charge.quantity)
    row = connection.execute("SELECT quantity FROM records WHERE key = ?", (key,)).fetchone()
    if row is None:
        connection.execute(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)",
            (key, series_id, charge.origin_id, charge.at_ns, quantity, seq),
        )
        second = charge.at_ns // _SECOND
        if second != int.from_bytes(key[:4], "big"):
            connection.execute("INSERT OR IGNORE INTO stray_records VALUES (?, ?)", (second, key))
    elif row[0] is None and connection.execute("DELETE FROM refiled WHERE key = ?", (key,)).rowcount:
        connection.execute(
            "UPDATE records SET series_id = ?, origin_id = ?, quantity = ?, seq = ? WHERE key = ?",
            (series_id, charge.origin_id, quantity, seq, key),
        )
    else:
        return False
    connection.execute(
        "UPDATE quarantine SET resolved_at = ?, resolution = 'billed' WHERE key = ? AND resolved_at IS NULL",
        (now, key),
    )
    return True


def _leave(connection: sqlite3.Connection, key: bytes, became: bytes) -> None:
    """Let the old row stay without a quantity, and say what it became."""
    connection.execute("UPDATE records SET quantity = NULL WHERE key = ?", (key,))
    connection.execute("INSERT OR REPLACE INTO refiled VALUES (?, ?)", (key, became))


def _tell(
    connection: sqlite3.Connection,
    policy: str,
    old: tuple[str, str, str | None],
    target: Terms,
    charges: list[_Charge],
    now: float,
) -> None:
    before = dict(zip(("account", "event_name", "metadata_field"), old, strict=True))
    after: dict[str, object] = {
        "account": target.account or "",
        "event_name": target.event_name,
        "metadata_field": target.metadata_field,
        "requests": len(charges),
        "quantity": amount.plain(_sum(charges)),
    }
    why = "the policy bills under other terms now, and no policy bills under the old ones"
    written = audit.record(
        connection, Change(SERVICE, decisions.REFILED, f"policy {policy}", before, after, why), now
    )
    connection.executemany(
        "INSERT OR IGNORE INTO decisions SELECT coalesce((SELECT became FROM refiled WHERE key = ?1), ?1), ?2",
        [(charge.key, written.entry) for charge in charges],
    )


def _sum(charges: Iterable[_Charge]) -> Quantity:
    total: Quantity = 0
    for charge in charges:
        total = amount.add(total, charge.quantity)
    return total
