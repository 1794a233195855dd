"""Recovering what can be read of a damaged ledger into a new one, without any tool but this program.

Every table is read in the order of its key from both ends towards the damage, and where the key is a number or a
charge also from between, so that only the rows on damaged pages are missing. The result is marked as a copy
(`copies.py`): nobody knows what of the last changes was lost, so what waits to be sent counts as perhaps sent.
"""

import shutil
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from otel_usageflow.errors import StorageError, UsageError
from otel_usageflow.extensions.sqlite_storage import exact
from otel_usageflow.extensions.sqlite_storage.file import LEDGER, lock
from otel_usageflow.extensions.sqlite_storage.header import repaired
from otel_usageflow.extensions.sqlite_storage.migration import migrate
from otel_usageflow.extensions.sqlite_storage.proof import audit, seal, trace_remains
from otel_usageflow.extensions.sqlite_storage.proof.copies import mark_copy
from otel_usageflow.extensions.sqlite_storage.proof.output_file import new_file
from otel_usageflow.ledger.audit import RECOVERED
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.verification import Progress

_DEPTH = 16
"""How often a range with damage in it is halved."""
_BATCH = 1_000


@dataclass(slots=True)
class Recovered:
    """What came out."""

    rows: Counter[str] = field(default_factory=Counter)
    incomplete: list[str] = field(default_factory=list)
    """Tables of which not everything could be read."""
    uncertain_events: int = 0
    schema: int = 0
    """The version that the damaged file names; above the last one that is known, columns may be missing."""


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


def recover(path: Path, output: Path, now: Callable[[], float], progress: Progress) -> Recovered:
    """Read what can be read of `path`, and write a new ledger `output`. The damaged one is not changed.

    Raises:
        LedgerInUse: a service runs with it.
        UsageError: `path` is no file, or `output` exists.
        StorageError: nothing can be read, or the new file cannot be written.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}; give the ledger.db that is damaged")
    if path.stat().st_size == 0:
        raise StorageError(f"there is nothing in {path} that could be recovered; restore a backup")
    result = Recovered()
    with ExitStack() as stack:
        if path.name == LEDGER:
            stack.enter_context(lock(path.parent))
        fresh = stack.enter_context(new_file(output))
        source = stack.enter_context(closing(_open(path, output, stack)))
        (result.schema,) = source.execute("PRAGMA user_version").fetchone()
        with closing(sqlite3.connect(fresh, isolation_level=None)) as target:
            try:
                _fill(source, target, result, now(), progress)
            except sqlite3.Error as error:
                raise StorageError(f"{output} cannot be written: {error}; make room and try again") from error
    return result


def _open(path: Path, output: Path, stack: ExitStack) -> sqlite3.Connection:
    """A connection that can read the schema; if need be to a copy in which the file's header is mended."""
    for options in ("mode=ro", "mode=ro&immutable=1"):  # the second leaves a damaged write-ahead log out
        source = _readable(path, options)
        if source is not None:
            return source
    copy = output.with_name(f".{output.name}.header")
    stack.callback(copy.unlink, missing_ok=True)
    try:
        shutil.copyfile(path, copy)
        with copy.open("r+b") as file:
            header = repaired(file.read(100), copy.stat().st_size)
            file.seek(0)
            file.write(header)
    except OSError as error:
        raise StorageError(f"{copy} cannot be written: {error.strerror}; make room and try again") from error
    source = _readable(copy, "mode=ro&immutable=1")
    if source is None:
        raise StorageError(
            f"the first page of {path} is damaged, so that nothing can be found in it; restore a backup, or look at "
            "it with SQLite's own tools"
        )
    return source


def _readable(path: Path, options: str) -> sqlite3.Connection | None:
    source = sqlite3.connect(f"{path.resolve().as_uri()}?{options}", uri=True, isolation_level=None)
    source.text_factory = _text
    try:
        (tables,) = source.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'records'").fetchone()
        source.execute("BEGIN")
    except sqlite3.Error:
        tables = 0
    if not tables:
        source.close()
        return None
    return source


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _fill(
    source: sqlite3.Connection, target: sqlite3.Connection, result: Recovered, at: float, progress: Progress
) -> None:
    exact.register(target)
    target.execute("PRAGMA auto_vacuum = INCREMENTAL")
    target.execute("PRAGMA synchronous = FULL")
    migrate(target, uuid.uuid4().hex)
    target.execute("BEGIN IMMEDIATE")
    (ledger_id,) = target.execute("SELECT ledger_id FROM ledger").fetchone()
    target.execute("DELETE FROM ledger")
    target.execute("DELETE FROM audit")
    for table in _tables(target):
        reader = _Reader(source, table)
        marks = ", ".join("?" * len(table.columns))
        insert = f"INSERT OR IGNORE INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"
        for batch in reader.batches():
            result.rows[table.name] += target.executemany(insert, batch).rowcount
            progress(table.name, result.rows[table.name], 0)
        if reader.damaged:
            result.incomplete.append(table.name)
    trace_remains.mend(target)
    _go_on_counting(source, target, str(ledger_id))
    result.uncertain_events = mark_copy(
        target, RECOVERED, at, rows=dict(sorted(result.rows.items())), incomplete=result.incomplete
    )
    target.execute("COMMIT")


def _tables(target: sqlite3.Connection) -> list[_Table]:
    names = [
        name
        for (name,) in target.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
        )
    ]
    found = []
    for name in names:
        info = target.execute(f"PRAGMA table_info({name})").fetchall()
        key = sorted((row[5], row[1]) for row in info if row[5])
        found.append(_Table(name, tuple(row[1] for row in info), tuple(column for _, column in key)))
    return found


class _Reader:
    """Reads one table around its damaged places."""

    def __init__(self, source: sqlite3.Connection, table: _Table) -> None:
        self._source = source
        self._table = table
        self._key = [table.columns.index(column) for column in table.key]
        self.damaged = False

    def batches(self) -> Iterator[list[tuple[object, ...]]]:
        """All rows that can be read, in lists; some may come twice."""
        yield from self._between(None, None, _DEPTH)

    def _between(
        self, low: tuple[object, ...] | None, high: tuple[object, ...] | None, depth: int
    ) -> Iterator[list[tuple[object, ...]]]:
        """The rows with keys over `low` and under `high`: upwards, downwards, then both halves of what is left."""
        ends: list[tuple[object, ...] | None] = []
        for order in ("", " DESC"):
            last, whole = None, True
            for batch in self._read(low, high, order):
                if batch:
                    last = tuple(batch[-1][place] for place in self._key)
                    yield batch
                else:
                    whole = False
            if whole:
                return
            ends.append(last)
        self.damaged = True
        low, high = ends[0] or low, ends[1] or high
        middle = _middle(low, high)
        if depth and middle is not None:
            yield from self._between(low, middle, depth - 1)
            yield from self._between(middle, high, depth - 1)

    def _read(
        self, low: tuple[object, ...] | None, high: tuple[object, ...] | None, order: str
    ) -> Iterator[list[tuple[object, ...]]]:
        """Batches in the order of the key; an empty one at the end stands for damage."""
        columns, key = ", ".join(self._table.columns), ", ".join(self._table.key)
        limits = [(sign, limit) for sign, limit in ((">", low), ("<", high)) if limit is not None]
        marks = ", ".join("?" * len(self._table.key))
        where = " AND ".join(f"({key}) {sign} ({marks})" for sign, _ in limits) or "1"
        ordered = ", ".join(f"{column}{order}" for column in self._table.key)
        batch: list[tuple[object, ...]] = []
        try:
            rows = self._source.execute(
                f"SELECT {columns} FROM {self._table.name} WHERE {where} ORDER BY {ordered}",
                [value for _, limit in limits for value in limit],
            )
            for row in rows:
                batch.append(row)
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
        except sqlite3.DatabaseError:
            if batch:
                yield batch
            yield []
            return
        if batch:
            yield batch


def _middle(low: Sequence[object] | None, high: Sequence[object] | None) -> tuple[object, ...] | None:
    """A key between two keys of one number or one charge; None if there is none, or nobody knows."""
    one, other = (low or (None,))[0], (high or (None,))[0]
    if len(low or high or ()) != 1:
        return None
    if isinstance(one or 0, int) and isinstance(other, int):
        first = one if isinstance(one, int) else 0
        return ((first + other) // 2,) if other - first > 1 else None
    if isinstance(other, bytes) and isinstance(one or b"", bytes):
        size = len(other)
        first = int.from_bytes((one if isinstance(one, bytes) else b"").ljust(size, b"\0")[:size], "big")
        last = int.from_bytes(other, "big")
        return (((first + last) // 2).to_bytes(size, "big"),) if last - first > 1 else None
    return None


def _go_on_counting(source: sqlite3.Connection, target: sqlite3.Connection, ledger_id: str) -> None:
    """Numbers that were given are never given again, even where the row is lost."""
    commits = "SELECT max(seq) AS seq FROM records" + "".join(
        f" UNION ALL SELECT max(last_seq) FROM {table}" for table in ("windows", "held_windows", "open_windows")
    )
    (seq,) = target.execute(f"SELECT coalesce(max(seq), 0) FROM ({commits})").fetchone()
    target.execute("INSERT OR IGNORE INTO ledger (one, ledger_id, seq) VALUES (1, ?, ?)", (ledger_id, seq))
    target.execute("UPDATE ledger SET seq = max(seq, ?)", (seq,))
    target.execute("UPDATE ledger SET ledger_id = coalesce(?, ledger_id)", (audit.ledger_id(target),))
    # Usage of before this would not be recognised if it came again. A number that is no begin of a day is damaged.
    told = seal.pruned_to(target)
    target.execute("UPDATE ledger SET pruned_to = max(iif(pruned_to % ?1 = 0, pruned_to, 0), ?2)", (DAY, told))
    given = Counter[str]()
    with suppress(sqlite3.DatabaseError):
        given.update(dict(source.execute("SELECT name, seq FROM sqlite_sequence").fetchall()))
    (covered,) = target.execute("SELECT coalesce(max(event_id), 0) FROM windows").fetchone()
    given["meter_events"] = max(given["meter_events"], covered)
    for name, number in given.items():
        target.execute(
            "INSERT INTO sqlite_sequence SELECT ?1, 0 WHERE ?1 NOT IN (SELECT name FROM sqlite_sequence)", (name,)
        )
        target.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, name))
