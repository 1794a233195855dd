"""Seals: digests in the audit log over what never changes again, so that a removed or altered row shows.

Sealed are meter events as they were frozen, the first answer to each, and the names that rows refer to by number.
Each seal covers a range of ids; ids have no gaps. Sums and counts of windows and records need none: they must agree
with one another and with the meter events. What pruning has removed is told by its own entries, and what it left over
of a sealed range is sealed again.

The digest is SHA-256 over the rows in the order of their ids, each as JSON in one line.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.ledger.audit import PRUNED, SEALED, SERVICE, Change
from otel_usageflow.ledger.charge import DAY

EVERY = 10_000
"""Rows at most under one seal, and meter events after which one is due."""
EVERY_SECONDS = 3600.0

_FIRST_ANSWER = ", ".join(
    f"iif(a.event_id IS NULL, e.{name}, a.{name})"
    for name in (
        *("identifier", "state", "attempts", "first_attempt_at", "settled_at"),
        *("duplicate", "reason", "code", "message", "request_id"),
    )
)
_ROWS = {
    "accounts": "SELECT account_id, book, account FROM accounts WHERE account_id BETWEEN ? AND ? ORDER BY 1",
    "meters": "SELECT meter_id, account_id, event_name FROM meters WHERE meter_id BETWEEN ? AND ? ORDER BY 1",
    "origins": "SELECT origin_id, policy, source FROM origins WHERE origin_id BETWEEN ? AND ? ORDER BY 1",
    "series": "SELECT series_id, meter_id, metadata_field, user, payload FROM series "
    "WHERE series_id BETWEEN ? AND ? ORDER BY 1",
    "meter_events": "SELECT event_id, account_id, event_name, customer, payload, value, timestamp, record_key, "
    "requests, part, parts, frozen_at FROM meter_events WHERE event_id BETWEEN ? AND ? ORDER BY 1",
    "answers": f"SELECT e.event_id, {_FIRST_ANSWER} FROM meter_events e "
    "LEFT JOIN answers a ON a.event_id = e.event_id AND a.number = 1 WHERE e.event_id BETWEEN ? AND ? ORDER BY 1",
}
PARTS = tuple(_ROWS)
EVENT_PARTS = ("meter_events", "answers")
"""What loses rows by pruning."""
_UP_TO = {
    "accounts": "SELECT max(account_id) FROM accounts",
    "meters": "SELECT max(meter_id) FROM meters",
    "origins": "SELECT max(origin_id) FROM origins",
    "series": "SELECT max(series_id) FROM series",
    "meter_events": "SELECT max(event_id) FROM meter_events",
    # All before the first one that has no answer. One that is sent again after an answer keeps that in `answers`.
    "answers": "SELECT coalesce((SELECT min(event_id) - 1 FROM meter_events WHERE state IN (0, 1)), "
    "(SELECT max(event_id) FROM meter_events))",
}
_PRUNED_TO = """
SELECT coalesce(max(told), 0) FROM (
  SELECT json_extract(after, '$.pruned_to') AS told FROM audit WHERE action = ? AND json_valid(after)
  UNION ALL SELECT cutoff FROM pruning)
WHERE typeof(told) = 'integer' AND told % ? = 0
"""


@dataclass(frozen=True, slots=True)
class Seal:
    """Rows `first` to `last` of a part; `rows` of them are there."""

    part: str
    first: int
    last: int
    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Sealing:
    """What is to be written under one entry, if `after` still is the last one with seals."""

    after: int
    to: dict[str, int]
    seals: tuple[Seal, ...]


def made(connection: sqlite3.Connection, part: str, first: int, last: int) -> Seal:
    """The seal over what is there now."""
    digest, rows = hashlib.sha256(), 0
    for row in connection.execute(_ROWS[part], (first, last)):
        digest.update(json.dumps(row, default=repr).encode() + b"\n")
        rows += 1
    return Seal(part, first, last, rows, digest.hexdigest())


def due(connection: sqlite3.Connection, now: float, most: int = 20) -> Sealing | None:
    """What is to be sealed now, at most `most` seals of each part; None if nothing is. Reads only."""
    last = _last(connection)
    number, at, to = last if last is not None else (0, None, dict.fromkeys(PARTS, 0))
    up_to = {part: connection.execute(_UP_TO[part]).fetchone()[0] or 0 for part in PARTS}
    news = {part: up_to[part] - to[part] for part in PARTS}
    hour_is_over = at is None or not 0 <= now - at < EVERY_SECONDS
    if not (max(news[part] for part in EVENT_PARTS) >= EVERY or (hour_is_over and any(n > 0 for n in news.values()))):
        again = _left_over(connection, number)
        return Sealing(number, to, again) if again else None
    seals, reached = list(_left_over(connection, number)), dict(to)
    for part in PARTS:
        for _ in range(most):
            first = reached[part] + 1
            if first > up_to[part]:
                break
            reached[part] = min(first + EVERY - 1, up_to[part])
            seals.append(made(connection, part, first, reached[part]))
    return Sealing(number, reached, tuple(seals))


def write(connection: sqlite3.Connection, sealing: Sealing, now: float) -> bool:
    """Write the seals; False if others were written meanwhile."""
    last = _last(connection)
    if (last[0] if last is not None else 0) != sealing.after:
        return False
    after = {"to": sealing.to, "seals": [asdict(one) for one in sealing.seals]}
    audit.record(connection, Change(SERVICE, SEALED, "ledger", after=after), now)
    return True


def in_force(connection: sqlite3.Connection) -> dict[tuple[str, int], Seal]:
    """(part, first id) -> the last seal over it."""
    found: dict[tuple[str, int], Seal] = {}
    for _, after in _entries(connection, SEALED, 0):
        for values in after.get("seals", ()):
            one = Seal(**values)
            found[one.part, one.first] = one
    return found


def pruned(connection: sqlite3.Connection, after: int = 0) -> list[tuple[int, int, int]]:
    """(first id, last id, how many of these) of meter events that pruning has removed, by entries after `after`."""
    return [
        (int(told["first_event"]), int(told["last_event"]), int(told["events"]))
        for _, told in _entries(connection, PRUNED, after)
        if told.get("events")
    ]


def pruned_to(connection: sqlite3.Connection) -> int:
    """The begin of the first day that no pass of pruning, ended or under way, has told to be gone; unix seconds."""
    (told,) = connection.execute(_PRUNED_TO, (PRUNED, DAY)).fetchone()
    return int(told)


def _left_over(connection: sqlite3.Connection, number: int) -> tuple[Seal, ...]:
    """New seals for ranges of which pruning has removed a part since entry `number`."""
    ranges = pruned(connection, number)
    if not ranges:
        return ()
    found = []
    for old in in_force(connection).values():
        if old.part in EVENT_PARTS and any(old.first <= last and first <= old.last for first, last, _ in ranges):
            new = made(connection, old.part, old.first, old.last)
            if new.rows < old.rows:
                found.append(new)
    return tuple(found)


def _last(connection: sqlite3.Connection) -> tuple[int, float, dict[str, int]] | None:
    row = connection.execute(
        "SELECT entry, at, after FROM audit WHERE action = ? ORDER BY entry DESC LIMIT 1", (SEALED,)
    ).fetchone()
    return None if row is None else (row[0], row[1], {**dict.fromkeys(PARTS, 0), **json.loads(row[2])["to"]})


def _entries(connection: sqlite3.Connection, action: str, after: int) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = connection.execute(
        "SELECT entry, after FROM audit WHERE action = ? AND entry > ? ORDER BY entry", (action, after)
    )
    for entry, text in rows:
        yield entry, json.loads(text)
