"""Verifying a ledger: the file, the audit log, the seals, conservation and the totals, all on one snapshot.

Nothing is changed. What is damaged so much that a check cannot be made is a finding of that check.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from otel_usageflow.extensions.sqlite_storage import exact
from otel_usageflow.extensions.sqlite_storage.damage import recovery
from otel_usageflow.extensions.sqlite_storage.migration import migrate
from otel_usageflow.extensions.sqlite_storage.proof import audit, seal
from otel_usageflow.extensions.sqlite_storage.proof.balance import check_conservation
from otel_usageflow.extensions.sqlite_storage.proof.request_checks import check_request_ids
from otel_usageflow.extensions.sqlite_storage.proof.shape import check_shape
from otel_usageflow.extensions.sqlite_storage.proof.stream_checks import check_stream
from otel_usageflow.extensions.sqlite_storage.proof.totals import check_totals
from otel_usageflow.extensions.sqlite_storage.proof.trace_checks import check_traces
from otel_usageflow.ledger.audit import COPIED, RECOVERED, Entry, first_break
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.verification import Head, Progress, Verification

_CHANGED = (
    "somebody or something changed the file from outside. Keep a copy, compare with a backup and with "
    "`otel-usageflow reconcile`"
)


def verify(connection: sqlite3.Connection, path: Path, expect: Head | None, progress: Progress) -> Verification:
    """Check everything.

    Args:
        connection: for reading; it is not in a transaction.
        path: the file, for messages.
        expect: what was noted of the audit log before; its hash may be shortened.
        progress: told how far it is.
    """
    found = Verification()
    connection.text_factory = _lenient
    checks: tuple[tuple[str, Callable[[], None]], ...] = (
        ("file", lambda: _check_file(connection, found, path, progress)),
        ("shape", lambda: check_shape(connection, found, progress)),
        ("audit", lambda: _check_audit(connection, found, expect, progress)),
        ("seals", lambda: _check_seals(connection, found, progress)),
        ("conservation", lambda: check_conservation(connection, found, progress)),
        ("request ids", lambda: check_request_ids(connection, found, progress)),
        ("stream", lambda: check_stream(connection, found, progress)),
        ("traces", lambda: check_traces(connection, found, progress)),
        ("totals", lambda: check_totals(connection, found, progress)),
    )
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        found.find("file", str(path), f"cannot be read: {error}", recovery(path))
        return found
    try:
        for check, run in checks:
            try:
                run()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                found.find(check, str(path), f"cannot be checked: {error}", recovery(path))
            except Exception as error:  # noqa: BLE001  (a column may hold anything that this program never writes)
                problem = (
                    f"cannot be checked: something in it is not what it must be ({type(error).__name__}: {error})"
                )
                found.find(check, str(path), problem, recovery(path))
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return found


def _lenient(raw: bytes) -> str:
    """Text that can be compared even where damage has made it something else than UTF-8."""
    return raw.decode(errors="surrogateescape")


def _check_file(connection: sqlite3.Connection, found: Verification, path: Path, progress: Progress) -> None:
    """SQLite's own check of every page and index, and the tables and indexes themselves."""
    connection.set_progress_handler(lambda: progress("file", 0, 0), 1_000_000)
    try:
        for (line,) in connection.execute("PRAGMA integrity_check(100)"):
            if line != "ok":
                found.find("file", str(path), " ".join(str(line).split()), recovery(path))
    finally:
        connection.set_progress_handler(None, 0)
    if _schema(connection) != _new_schema():
        found.find("file", str(path), "its tables and indexes are not those of this version", _CHANGED)


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    rows = connection.execute(
        "SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
    )
    return {(kind, name, " ".join(str(sql).split())) for kind, name, sql in rows}


def _new_schema() -> set[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        exact.register(connection)
        migrate(connection, "")
        return _schema(connection)


def _check_audit(
    connection: sqlite3.Connection, found: Verification, expect: Head | None, progress: Progress
) -> None:
    """Every entry fits the one before it, and what was noted earlier is still there."""
    noted: list[Entry] = []

    def entries() -> Iterator[Entry]:
        for entry in audit.entries(connection):
            found.looked_at["audit_entries"] += 1
            found.head = Head(entry.entry, entry.hash.hex())
            if expect is not None and entry.entry == expect.entry:
                noted.append(entry)
            progress("audit log", entry.entry, 0)
            yield entry

    reading = entries()
    broken = first_break(reading)
    for _ in reading:  # the head is the last one, whatever comes before it
        pass
    if broken is not None:
        problem = "was changed, or one before it was removed: its hash does not follow from the entry before it"
        found.find("audit", f"audit entry {broken}", problem, _CHANGED)
    _check_ledger(connection, found)
    if found.head is None:
        found.find("audit", "audit log", "is empty; the ledger's creation is its first entry", _CHANGED)
    if expect is not None and not (noted and noted[0].hash.hex().startswith(expect.hash)):
        problem = f"is not {expect.hash} any more" if noted else "is gone: the end of the log was cut off"
        found.find("audit", f"audit entry {expect.entry}", problem, _CHANGED)


def _check_ledger(connection: sqlite3.Connection, found: Verification) -> None:
    """The ledger's own row says what the audit log says about it."""
    copy = connection.execute(
        "SELECT at FROM audit WHERE action IN (?, ?) ORDER BY entry DESC LIMIT 1", (COPIED, RECOVERED)
    ).fetchone()
    one, ledger_id, seq, copied_seq, copied_at, pruned_to, highest = connection.execute(
        "SELECT one, ledger_id, seq, copied_seq, copied_at, pruned_to, (SELECT coalesce(max(seq), 0) FROM records) "
        "FROM ledger"
    ).fetchone()
    if one != 1 or audit.ledger_id(connection) not in (None, ledger_id):
        found.find("audit", "the ledger", "has another id than when it was made", _CHANGED)
    if copied_at != (copy[0] if copy else 0) or (copied_seq and not copy) or max(copied_seq, highest) > seq:
        found.find("audit", "the ledger", "counts other commits than its records and copies", _CHANGED)
    if pruned_to % DAY or pruned_to < seal.pruned_to(connection):
        problem = f"is pruned up to second {pruned_to}, which is not what the audit log tells"
        found.find("audit", "the ledger", problem, _CHANGED)


def _check_seals(connection: sqlite3.Connection, found: Verification, progress: Progress) -> None:
    """What was sealed is as it was, and no meter event is missing that pruning has not told of."""
    ranges = (
        seal.pruned(connection)
        + connection.execute("SELECT first_event, last_event, events FROM pruning WHERE events > 0").fetchall()
    )
    seals = sorted(seal.in_force(connection).values(), key=lambda one: (one.part, one.first))
    for number, old in enumerate(seals):
        progress("seals", number, len(seals))
        found.looked_at["seals"] += 1
        new = seal.made(connection, old.part, old.first, old.last)
        if new == old:
            continue
        where = f"{old.part.replace('_', ' ')} {old.first} to {old.last}"
        explained = old.part in seal.EVENT_PARTS and any(a <= old.last and old.first <= b for a, b, _ in ranges)
        if new.rows < old.rows and not explained:
            found.find("seals", where, f"{old.rows - new.rows} of {old.rows} were removed", _CHANGED)
        elif new.rows < old.rows:
            if new.rows:
                found.remarks.append(
                    f"{where}: pruned since they were sealed; the rest is sealed again within a minute"
                )
        else:
            found.find("seals", where, "were altered since they were sealed", _CHANGED)
    _check_gaps(connection, found, ranges)


def _check_gaps(connection: sqlite3.Connection, found: Verification, ranges: list[tuple[int, int, int]]) -> None:
    (given,) = connection.execute(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'meter_events'), 0)"
    ).fetchone()
    present, highest = connection.execute("SELECT count(*), coalesce(max(event_id), 0) FROM meter_events").fetchone()
    removed = sum(events for _, _, events in ranges)
    gaps = connection.execute(
        """SELECT coalesce((SELECT max(p.event_id) FROM meter_events p WHERE p.event_id < e.event_id), 0) + 1,
                  e.event_id - 1 FROM meter_events e
           WHERE e.event_id > 1 AND NOT EXISTS (SELECT 1 FROM meter_events p WHERE p.event_id = e.event_id - 1)"""
    ).fetchall()
    if highest < given:
        gaps.append((highest + 1, given))
    for first, last in gaps:
        if not _covered(first, last, ranges):
            what = f"meter event {first}" if first == last else f"meter events {first} to {last}"
            found.find("seals", what, "missing, and no pruning has removed them", _CHANGED)
    if highest <= given and given - present != removed and not found.counts["seals"]:
        problem = f"{given - present} are missing, and pruning has told of {removed}"
        found.find("seals", "meter events", problem, _CHANGED)
    if highest > given:
        found.find("seals", f"meter event {highest}", f"only {given} ids were ever given", _CHANGED)


def _covered(first: int, last: int, ranges: list[tuple[int, int, int]]) -> bool:
    """Whether every id lies in some range."""
    for low, high, _ in sorted(ranges):
        if low <= first <= high:
            first = high + 1
    return first > last
