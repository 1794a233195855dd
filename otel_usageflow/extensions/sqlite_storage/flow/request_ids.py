"""Charges that carry the id of a request: which of them count is decided anew whenever one comes.

`request_ids` has a line for each of them. One that counts stands there alone. One that gave way to another says to
which, and how much it would have counted; its row of `records` has no quantity, so that its span is known when it
comes again. So what counts depends on what came, and not on the order, with one limit: a charge that is in a meter
event already cannot be taken back, and stays the one that counts.

Only the digest of an id is kept, beside the number of the meter, which stands for account and event name. Lines go
when their records do. Only records with an id pay for any of this.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from zlib import crc32

from otel_usageflow.extensions.sqlite_storage.flow.trace_rows import bounds
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import trace_of
from otel_usageflow.model.same_request import Candidate, give_way
from otel_usageflow.model.usage import Quantity, Reason, Terms, UsageRecord

SAME_REQUEST = "same request"
"""What `quarantine.resolution` says."""

TakeBack = Callable[[bytes], bool]
"""Undoes a charge that is not in a meter event yet; False if it is."""

_ANY = "SELECT 1 FROM request_ids WHERE request = ? LIMIT 1"
_WRITE = "INSERT OR REPLACE INTO request_ids VALUES (?, ?, ?, ?, ?)"
# Those that count, or wait in quarantine. A line of which neither table has anything was pruned in part.
_COUNTING = """
SELECT i.key, s.user, coalesce(r.at_ns, q.at_ns), r.quantity, r.key IS NOT NULL, q.quantity
FROM request_ids i LEFT JOIN records r ON r.key = i.key
LEFT JOIN quarantine q ON q.key = i.key AND q.resolved_at IS NULL
JOIN series s ON s.series_id = coalesce(r.series_id, q.series_id)
WHERE i.request = ? AND i.same_as IS NULL
"""
_GAVE_WAY = """
SELECT i.key, r.at_ns, i.quantity, o.policy, o.source, s.user, s.metadata_field, s.payload, m.event_name, a.account,
  q.seen
FROM request_ids i JOIN records r ON r.key = i.key JOIN origins o USING (origin_id) JOIN series s USING (series_id)
JOIN meters m USING (meter_id) JOIN accounts a USING (account_id)
LEFT JOIN quarantine q ON q.key = i.key
WHERE i.request = ? AND i.same_as = ?
"""


_LATE = """
SELECT p.key FROM traces JOIN trace_parts p USING (trace_no)
WHERE trace_id >= ? AND trace_id <= ? AND p.meter_id = ? AND p.request = ? AND p.key != x''
"""
# Charges that once went the other way, and gave way there to the one that comes now.
_COMES_BACK = """
SELECT i.key, b.quantity FROM request_ids i JOIN refiled f ON f.key = i.key JOIN request_ids b ON b.key = f.became
WHERE i.request = ? AND i.same_as IS NULL AND i.key != ? AND b.same_as = ?
"""


class Arrival(NamedTuple):
    """A charge that carries an id, on its way into the ledger."""

    key: bytes
    request: bytes
    """The meter's number (4 bytes) and the digest of the id."""
    series_id: int
    origin_id: int
    at_ns: int
    quantity: Quantity | None
    billable: bool


@dataclass(frozen=True, slots=True)
class _Member:
    candidate: Candidate
    billed: bool
    """There is a record that counts."""
    quantity: int | str | None
    """As it is stored."""
    arrival: Arrival | None = None


def request_of(meter_id: int, request_id: bytes) -> bytes:
    """What `request_ids` calls a request under a meter."""
    return meter_id.to_bytes(4, "big") + request_id


def check_sum(*values: bytes | int | str | None) -> int:
    """Of a line, as it is stored, so that `ledger verify` finds one that was altered."""
    return crc32(repr(values).encode(errors="surrogateescape"))


def settle(
    connection: sqlite3.Connection, arrivals: Iterable[Arrival], seq: int, now: float, take_back: TakeBack
) -> set[bytes]:
    """Decide which charges count, now that these have come; return the keys of those that are not to be filed.

    What was filed before and gives way now is taken back, or leaves quarantine.
    """
    groups: dict[bytes, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        groups[arrival.request].append(arrival)
    gone: set[bytes] = set()
    alone: list[tuple[bytes, bytes]] = []
    for request, came in groups.items():
        if len(came) == 1 and connection.execute(_ANY, (request,)).fetchone() is None:
            alone.append((came[0].key, request))  # by far the most frequent
            continue
        members = _members(connection, request, came)
        verdict = _verdict(members, take_back)
        for key, member in members.items():
            counts_for_it = verdict.get(key)
            if member.arrival is not None:
                _enter(connection, member.arrival, counts_for_it, seq, now)
                if counts_for_it is not None:
                    gone.add(key)
            elif counts_for_it is not None:
                _leave(connection, request, key, member, counts_for_it, now)
                _take_late_back(connection, key, take_back, now)
    connection.executemany(_WRITE, [(*line, None, None, check_sum(*line, None, None)) for line in alone])
    return gone


def forget_inner(connection: sqlite3.Connection, keys: Iterable[bytes]) -> list[UsageRecord]:
    """Charges of inner spans were undone; return what had given way to them, to be decided about anew."""
    again: list[UsageRecord] = []
    for key in keys:
        row = connection.execute(
            "DELETE FROM request_ids WHERE key = ? RETURNING request, same_as", (key,)
        ).fetchone()
        if row is not None and row[1] is None:
            again += _free(connection, row[0], key)
    return again


def refile(
    connection: sqlite3.Connection, old: bytes, arrival: Arrival, seq: int, now: float, take_back: TakeBack
) -> bool:
    """A charge is put under another meter; False if another one counts for it there."""
    row = connection.execute("SELECT request FROM request_ids WHERE key = ?", (old,)).fetchone()
    if row is None:
        return True
    moved = arrival._replace(request=arrival.key[28:] + row[0][4:])
    if same_as(connection, moved.key) is not None:
        _remove(connection, moved.key)  # it gave way there to what comes back with it
    for key, quantity in connection.execute(_COMES_BACK, (moved.request, moved.key, old)).fetchall():
        _write(connection, key, moved.request, moved.key, quantity)
    return moved.key not in settle(connection, [moved], seq, now, take_back)


def same_as(connection: sqlite3.Connection, key: bytes) -> bytes | None:
    """The charge that counts for this one, or None."""
    row = connection.execute("SELECT same_as FROM request_ids WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def _members(connection: sqlite3.Connection, request: bytes, came: Iterable[Arrival]) -> dict[bytes, _Member]:
    """All that the decision is about: what counts so far, and what has come and is not known yet."""
    members: dict[bytes, _Member] = {}
    for key, user, at_ns, quantity, filed, waiting in connection.execute(_COUNTING, (request,)).fetchall():
        billed = quantity is not None
        candidate = Candidate((at_ns, key), user, billable=billed, fixed=bool(filed) and not billed)
        members[key] = _Member(candidate, billed, quantity if billed else waiting)
    for arrival in sorted(came, key=lambda one: not one.billable):
        if _is_known(connection, arrival) or (arrival.key in members and not arrival.billable):
            continue
        if arrival.key in members and members[arrival.key].arrival is not None:
            continue
        (user,) = connection.execute("SELECT user FROM series WHERE series_id = ?", (arrival.series_id,)).fetchone()
        candidate = Candidate((arrival.at_ns, arrival.key), user, arrival.billable)
        members[arrival.key] = _Member(candidate, billed=False, quantity=None, arrival=arrival)
    return members


def _is_known(connection: sqlite3.Connection, arrival: Arrival) -> bool:
    """Whether it is filed already. What gave way because it could not be billed, and can be now, is told anew."""
    if connection.execute("SELECT 1 FROM records WHERE key = ?", (arrival.key,)).fetchone() is None:
        return False
    gave_way = connection.execute(
        """SELECT i.quantity IS NULL OR s.user = '' FROM request_ids i JOIN records r USING (key)
           JOIN series s USING (series_id) WHERE i.key = ? AND i.same_as IS NOT NULL""",
        (arrival.key,),
    ).fetchone()
    if not arrival.billable or gave_way is None or not gave_way[0]:
        return True
    _remove(connection, arrival.key)
    return False


def _verdict(members: dict[bytes, _Member], take_back: TakeBack) -> Mapping[bytes, bytes]:
    """Who gives way to whom; what was billed and gives way is taken back, or else is fixed from now on."""
    while True:
        verdict = give_way({key: member.candidate for key, member in members.items()})
        stuck = False
        for key in verdict:
            member = members[key]
            if not member.billed:
                continue
            if take_back(key):
                members[key] = replace(member, billed=False)
            else:
                members[key] = replace(member, candidate=member.candidate._replace(fixed=True))
                stuck = True
        if not stuck:
            return verdict


def _enter(
    connection: sqlite3.Connection, arrival: Arrival, counts_for_it: bytes | None, seq: int, now: float
) -> None:
    quantity = None
    if counts_for_it is not None:
        quantity = None if arrival.quantity is None else amount.stored(arrival.quantity)
        connection.execute(
            "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, NULL, ?)",
            (arrival.key, arrival.series_id, arrival.origin_id, arrival.at_ns, seq),
        )
        _note_stray(connection, arrival.key)
        trace_index.outdate(connection, [arrival.key])
        _resolve(connection, arrival.key, now)
    _write(connection, arrival.key, arrival.request, counts_for_it, quantity)


def _leave(
    connection: sqlite3.Connection, request: bytes, key: bytes, member: _Member, counts_for_it: bytes, now: float
) -> None:
    """One that counted so far, and whatever had given way to it, gives way to another."""
    _set_aside(connection, key, now)
    followers = connection.execute(
        "SELECT key, quantity FROM request_ids WHERE request = ? AND same_as = ?", (request, key)
    ).fetchall()
    for follower, quantity in [*followers, (key, member.quantity)]:
        _write(connection, follower, request, counts_for_it, quantity)


def _take_late_back(connection: sqlite3.Connection, key: bytes, take_back: TakeBack, now: float) -> None:
    """Spans that came too late for their request, which gives way to another now, count as little as it does."""
    trace_id, span_id = trace_of(key)
    late = connection.execute(_LATE, (*bounds(trace_id), int.from_bytes(key[28:], "big"), span_id)).fetchall()
    for (one,) in late:
        if take_back(one):
            _set_aside(connection, one, now)


def _set_aside(connection: sqlite3.Connection, key: bytes, now: float) -> None:
    """Let a charge leave quarantine, if it stands there, and keep it without a quantity."""
    connection.execute(
        """INSERT OR IGNORE INTO records SELECT key, series_id, origin_id, at_ns, NULL, (SELECT seq FROM ledger)
           FROM quarantine WHERE key = ? AND resolved_at IS NULL""",
        (key,),
    )
    _note_stray(connection, key)
    trace_index.outdate(connection, [key])
    _resolve(connection, key, now)


def _write(connection: sqlite3.Connection, *line: bytes | int | str | None) -> None:
    connection.execute(_WRITE, (*line, check_sum(*line)))


def _note_stray(connection: sqlite3.Connection, key: bytes) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO stray_records SELECT at_ns / 1000000000, key FROM records "
        "WHERE key = ? AND at_ns / 1000000000 != ?",
        (key, int.from_bytes(key[:4], "big")),
    )


def _resolve(connection: sqlite3.Connection, key: bytes, now: float) -> None:
    connection.execute(
        "UPDATE quarantine SET resolved_at = ?, resolution = ? WHERE key = ? AND resolved_at IS NULL",
        (now, SAME_REQUEST, key),
    )


def _free(connection: sqlite3.Connection, request: bytes, key: bytes) -> list[UsageRecord]:
    rows = connection.execute(_GAVE_WAY, (request, key)).fetchall()
    for row in rows:
        _remove(connection, row[0])
    return [_record(row, request[4:]) for row in rows]


def _remove(connection: sqlite3.Connection, key: bytes) -> None:
    """Let the ledger know nothing of a charge that had given way."""
    connection.execute("DELETE FROM request_ids WHERE key = ?", (key,))
    connection.execute(
        "INSERT OR IGNORE INTO left_windows SELECT at_ns, series_id, seq FROM records WHERE key = ?", (key,)
    )
    connection.execute("DELETE FROM records WHERE key = ? AND quantity IS NULL", (key,))
    connection.execute("DELETE FROM stray_records WHERE key = ?", (key,))
    connection.execute("DELETE FROM quarantine WHERE key = ? AND resolution = ?", (key, SAME_REQUEST))
    trace_index.outdate(connection, [key])


def _record(row: tuple[Any, ...], request_id: bytes) -> UsageRecord:
    key, at_ns, quantity, policy, source, user, field, payload, event_name, account, seen = row
    trace_id, span_id = trace_of(key)
    reason = Reason.NO_USER if not user else Reason.BAD_QUANTITY if quantity is None else None
    return UsageRecord(
        trace_id=trace_id,
        span_id=span_id,
        ended_ns=int.from_bytes(key[:4], "big") * 1_000_000_000,
        at_ns=at_ns,
        terms=Terms(policy, event_name, field or None, account or None),
        user=user or None,
        source=source or None,
        quantity=None if quantity is None else amount.restored(quantity),
        payload=tuple(sorted(json.loads(payload).items())) if payload else (),
        reason=reason,
        seen=tuple(json.loads(seen)) if seen else (),
        request_id=request_id,
    )
