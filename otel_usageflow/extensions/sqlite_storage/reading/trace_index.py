"""In which second a trace has usage: an index that is made in the background, and costs the taking of usage nothing.

Charges are filed by the second of their span's end, so a trace whose second is known is found at once. The index
tells the second. It is made for slices of ten minutes that are over: of each slice and last byte of the trace id, one
row holds four further bytes of each trace id together with the second within the slice, sorted. A trace is looked
for in the slices that have an index by reading the rows of its last byte, which lie next to each other; and in the
others, which are the newest, by looking into each second.

A slice is either told completely or not at all. Who makes a slice's index first claims it with a row of
`trace_slices`; whatever changes a record or adds one deletes that row in the same transaction; and the index counts
only if the row is still there at the end. That also holds between processes. A commit need not even look as long as
all of its spans ended after the newest slice that has an index: see `Indexed`.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from otel_usageflow.ledger.charge import first_key

SLICE = 600
"""Seconds in a slice."""
_ENTRY = 6
_PAGE = 20_000
"""Records that are read in one go."""
_MANY = 200
"""Slices without an index from which on reading all of their keys is faster than looking into each second."""
# The sums are text that SQLite makes by itself: Python would need several times as long, and block other threads.
_PLACE = "hex(substr(key, 20, 1)) || hex(substr(key, 16, 4)) || hex(substr(key, 1, 4))"
_ROW = (
    "hex(key) || ',' || series_id || ',' || origin_id || ',' || at_ns || ',' || quote(quantity) || ',' || seq || ';'"
)
_SET_ASIDE = (
    "'q' || hex(key) || ',' || series_id || ',' || origin_id || ',' || at_ns || ',' || quote(quantity) || ',' || "
    "reason || ',' || seen || ',' || quarantined_at || ';'"
)
_PAGES = {
    table: f"""SELECT count(*), max(key), group_concat({_PLACE}, ''), group_concat({row}, '')
               FROM (SELECT * FROM {table} WHERE key >= ? AND key < ? ORDER BY key LIMIT ?)"""
    for table, row in (("records", _ROW), ("quarantine", _SET_ASIDE))
}
_CANDIDATES = """
SELECT i.slice, i.entries FROM trace_index i CROSS JOIN trace_slices s ON s.slice = i.slice
WHERE i.bucket = ? AND s.records >= 0 AND instr(i.entries, ?) > 0
"""


class Indexed:
    """How far the index reaches, for commits to compare with. Belongs to the writer's thread.

    It may reach too far, which costs a look into the table, and never too short.
    """

    __slots__ = ("key",)

    def __init__(self) -> None:
        self.key = b""
        """No slice that has an index, or is about to get one, holds this key or a later one."""

    def reaches(self, number: int) -> None:
        """This slice has an index or is about to get one."""
        self.key = max(self.key, first_key((number + 1) * SLICE))


@dataclass(frozen=True, slots=True)
class Made:
    """What is in a slice."""

    records: int
    digest: bytes
    """BLAKE2b over all columns of the slice's records, in the order of their keys, and over what never changes of its
    quarantine."""
    buckets: dict[int, bytes]
    """Last byte of the trace id -> entries."""


def slice_of(key: bytes) -> int:
    """The number of the slice that a charge lies in."""
    return int.from_bytes(key[:4], "big") // SLICE


def outdate(connection: sqlite3.Connection, keys: Iterable[bytes]) -> None:
    """Records or quarantine with these keys were added, changed or removed: their slices' index no longer counts."""
    slices = {slice_of(key) for key in keys}
    connection.executemany("DELETE FROM trace_slices WHERE slice = ?", [(number,) for number in slices])


def claim(connection: sqlite3.Connection, number: int) -> None:
    """Announce that a slice's index is being made. What is committed after this, and only that, can outdate it."""
    connection.execute("INSERT OR REPLACE INTO trace_slices VALUES (?, -1, x'')", (number,))


def last_slice(connection: sqlite3.Connection) -> int | None:
    """The newest slice that has an index, or was about to get one when a process ended."""
    number: int | None = connection.execute("SELECT max(slice) FROM trace_slices").fetchone()[0]
    return number


def read(connection: sqlite3.Connection, number: int) -> Made:
    """What is in a slice now."""
    digest, records = blake2b(digest_size=16), 0
    buckets: defaultdict[int, set[bytes]] = defaultdict(set)
    for table, query in _PAGES.items():
        for count, places, rows in _pages(connection, query, number):
            digest.update(rows.encode())
            if table == "records":
                records += count
            for start in range(0, len(places), 9):
                second = int.from_bytes(places[start + 5 : start + 9], "big") - number * SLICE
                buckets[places[start]].add(places[start + 1 : start + 5] + second.to_bytes(2, "big"))
    return Made(records, digest.digest(), {last: b"".join(sorted(found)) for last, found in buckets.items()})


def write(connection: sqlite3.Connection, number: int, buckets: Iterable[tuple[int, bytes]]) -> None:
    """Write some of a slice's entries. They do not count before `finish`."""
    rows = [(bucket, number, entries) for bucket, entries in buckets]
    connection.executemany("INSERT OR REPLACE INTO trace_index VALUES (?, ?, ?)", rows)


def finish(connection: sqlite3.Connection, number: int, made: Made) -> bool:
    """Let a slice's index count; False if the slice has changed since it was claimed."""
    written = connection.execute(
        "UPDATE trace_slices SET records = ?, digest = ? WHERE slice = ? AND records < 0",
        (made.records, made.digest, number),
    )
    return written.rowcount == 1


def indexed_slices(connection: sqlite3.Connection) -> set[int]:
    """The slices whose index counts."""
    return {number for (number,) in connection.execute("SELECT slice FROM trace_slices WHERE records >= 0")}


def missing(
    connection: sqlite3.Connection, indexed: Collection[int], after: int = 0, before: int = 2**32 // SLICE + 1
) -> Iterator[int]:
    """The slices from `after` on that hold anything and have no index, in order."""
    number = after
    while number < before:
        if number in indexed:
            number += 1
            continue
        low, high = first_key(number * SLICE), first_key(before * SLICE)
        rows = (
            connection.execute(f"SELECT min(key) FROM {table} WHERE key >= ? AND key < ?", (low, high)).fetchone()
            for table in _PAGES
        )
        keys = [row[0] for row in rows if row[0] is not None]
        if not keys:
            return
        number = slice_of(min(keys))
        if number not in indexed:
            yield number
            number += 1


def find(connection: sqlite3.Connection, trace_id: bytes) -> list[bytes]:
    """The keys of all charges of a trace, in the order of time."""
    found: set[bytes] = set()
    for second in _seconds(connection, trace_id):
        prefix = first_key(second) + trace_id
        for table in _PAGES:
            rows = connection.execute(
                f"SELECT key FROM {table} WHERE key >= ? AND key < ?", (prefix, prefix + b"\xff" * 13)
            )
            found.update(key for (key,) in rows)
    unknown = list(missing(connection, indexed_slices(connection)))
    if len(unknown) > _MANY:
        for table in _PAGES:
            rows = connection.execute(f"SELECT key FROM {table} WHERE substr(key, 5, 16) = ?", (trace_id,))
            found.update(key for (key,) in rows)
    else:
        for number in unknown:
            for table in _PAGES:
                found.update(_look_into(connection, table, number, trace_id))
    return sorted(found)


def _pages(connection: sqlite3.Connection, query: str, number: int) -> Iterator[tuple[int, bytes, str]]:
    low, high = first_key(number * SLICE), first_key((number + 1) * SLICE)
    while True:
        count, last, places, rows = connection.execute(query, (low, high, _PAGE)).fetchone()
        if count:
            yield count, bytes.fromhex(places), rows
        if count < _PAGE:
            return
        low = last + b"\x00"


def _seconds(connection: sqlite3.Connection, trace_id: bytes) -> Iterator[int]:
    """Where the index says that the trace may have something; in a few cases of billions it has not."""
    wanted = trace_id[11:15]
    for number, entries in connection.execute(_CANDIDATES, (trace_id[15], wanted)).fetchall():
        place = entries.find(wanted)
        while place >= 0:
            if place % _ENTRY == 0:
                yield number * SLICE + int.from_bytes(entries[place + 4 : place + 6], "big")
            place = entries.find(wanted, place + 1)


def _look_into(connection: sqlite3.Connection, table: str, number: int, trace_id: bytes) -> Iterator[bytes]:
    """The trace's keys in a slice without an index: one look for each second that holds anything."""
    query = f"SELECT key FROM {table} WHERE key >= ? AND key < ? ORDER BY key LIMIT 1"
    low, high = first_key(number * SLICE) + trace_id, (number + 1) * SLICE
    while row := connection.execute(query, (low, first_key(high))).fetchone():
        key: bytes = row[0]
        second, trace = int.from_bytes(key[:4], "big"), key[4:20]
        if trace == trace_id:
            yield key
            low = key + b"\x00"
        elif trace < trace_id:
            low = key[:4] + trace_id
        elif second + 1 < high:
            low = first_key(second + 1) + trace_id
        else:
            return
