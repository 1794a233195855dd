"""Is the ledger's file whole? Bounded checks before the first change of a start, and what is said when it is not.

SQLite notices damage only where it reads. A start must not take usage into a file that cannot be trusted, and must
not take minutes either, so it looks where damage would lose something without a word: at a file that is empty or
shorter than it says, at a write-ahead log that breaks off in the middle, and at the pages of a small ledger or of the
small tables of a large one. `otel-usageflow ledger verify` looks at everything.
"""

import shlex
import sqlite3
import struct
import time
from contextlib import closing
from pathlib import Path

from otel_usageflow.errors import StorageCorrupt, StorageError

SMALL = 50_000_000
"""Bytes of a file that is looked at as a whole."""
_SMALLEST = 512
"""Bytes of the smallest page: what is shorter SQLite may take for a new database."""
_PATIENCE = 1.0
"""Seconds for looking at pages."""
_HOT = ("ledger", "accounts", "meters", "open_windows", "released_events", "adjustments", "directories", "cursors")
_WAL_HEADER, _FRAME_HEADER = 32, 24


def recovery(path: Path) -> str:
    """What to do about a damaged ledger; the command can be copied."""
    command = f"otel-usageflow ledger recover {shlex.quote(str(path.absolute()))}"
    return (
        f"nothing was changed. Keep a copy of {path}*, then recover what can be read with `{command}`, "
        "or restore a backup"
    )


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file is not what it should be."""
    name = getattr(error, "sqlite_errorname", None) or ""
    text = isinstance(error, sqlite3.OperationalError) and str(error).startswith("Could not decode")
    # Even SQLite's message may quote what is damaged.
    return (
        text or isinstance(error, UnicodeDecodeError) or name.startswith("SQLITE_CORRUPT") or name == "SQLITE_NOTADB"
    )


def explained(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> StorageError:
    """What to tell people about an error of SQLite."""
    # The version of the schema is right, so what it lacks has been damaged.
    if is_damage(error) or str(error).startswith(("no such column", "no such table")):
        return damaged(path, str(error))
    name = getattr(error, "sqlite_errorname", None) or ""
    if name == "SQLITE_FULL":
        return StorageError(f"the ledger {path} cannot be used: the disk is full; make room and start again")
    return StorageError(f"the ledger {path} cannot be opened: {error}; check the disk and the file's permissions")


def damaged(path: Path, how: str) -> StorageCorrupt:
    """The error for a damaged ledger."""
    return StorageCorrupt(f"the ledger {path} is damaged ({how}); {recovery(path)}")


def of_connection(connection: sqlite3.Connection) -> Path:
    """The file that a connection has open."""
    return Path(next(row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main"))


def check_file(path: Path) -> None:
    """Refuse a file that SQLite would silently take for a new one.

    Raises:
        StorageCorrupt: it is empty, or gone while its write-ahead log is there.
    """
    log = _log_of(path)
    if path.exists():
        if path.stat().st_size < _SMALLEST:
            raise damaged(path, "the file is empty" if path.stat().st_size == 0 else "it was cut off")
    elif log.exists() and log.stat().st_size:
        raise damaged(path, f"it is gone, and its write-ahead log {log.name} is there")


def check_opened(connection: sqlite3.Connection, path: Path) -> None:
    """Look for damage through a connection that has not written yet.

    Raises:
        StorageCorrupt: there is some.
        sqlite3.Error: so it seems to SQLite.
    """
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # SQLite reads the write-ahead log now
    _check_log(path)
    _check_size(connection, path)
    _check_pages(connection, path)


def _check_size(connection: sqlite3.Connection, path: Path) -> None:
    """Every page is in the file or in its write-ahead log."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    there = path.stat().st_size // size
    if there >= pages:
        return
    logged = {page for page, _, _ in _frames(_log_of(path))}
    if any(page not in logged for page in range(there + 1, pages + 1)):
        raise damaged(path, f"it has {there} of {pages} pages; it was cut off")


def _check_log(path: Path) -> None:
    """The write-ahead log does not break off before its end.

    After a crash the last transaction may be torn. What comes after a transaction that was read as torn was committed
    after it, so the log is damaged, and SQLite would leave out all of that without a word.
    """
    log = _log_of(path)
    if not log.exists() or log.stat().st_size <= _WAL_HEADER:
        return
    frames = _frames(log)
    with log.open("rb") as file:
        salts = struct.unpack(">2I", file.read(_WAL_HEADER)[16:24])
    index = path.with_name(path.name + "-shm")
    with index.open("rb") as file:
        (valid,) = struct.unpack("=I", file.read(20)[16:20])  # mxFrame of SQLite's index of the log
    if valid == 0:
        # A log that is reused has other salts than the old frames in it; a damaged header differs in one of them.
        lost = bool(frames) and any(old == new for old, new in zip(frames[0][2], salts, strict=True))
        broken = lost and any(commit for _, commit, _ in frames)
    else:
        behind = [commit for _, commit, found in frames[valid:] if found == salts]
        broken = sum(1 for commit in behind if commit) > 1
    if broken:
        raise damaged(path, f"its write-ahead log {log.name} has a damaged place before its end")


def _frames(log: Path) -> list[tuple[int, int, tuple[int, int]]]:
    """(page, size of the database if it commits, salts) of every frame that is whole."""
    found: list[tuple[int, int, tuple[int, int]]] = []
    if not log.exists() or log.stat().st_size <= _WAL_HEADER:
        return found
    with log.open("rb") as file:
        header = file.read(_WAL_HEADER)
        step = _FRAME_HEADER + struct.unpack(">I", header[8:12])[0]
        if not 512 <= step - _FRAME_HEADER <= 65_536:
            return []
        for place in range(_WAL_HEADER, log.stat().st_size - step + 1, step):
            file.seek(place)
            page, commit, first, second = struct.unpack(">4I", file.read(16))
            found.append((page, commit, (first, second)))
    return found


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """SQLite's own check, of as much as fits into a second."""
    small = path.stat().st_size <= SMALL
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    checks = ["quick_check(1)"] if small else [f"quick_check({name})" for name in _HOT if name in there]
    until = time.monotonic() + _PATIENCE
    connection.set_progress_handler(lambda: int(time.monotonic() > until), 10_000)
    try:
        for check in checks:
            with closing(connection.execute(f"PRAGMA {check}")) as rows:
                (found,) = rows.fetchone()
            if found != "ok":
                raise damaged(path, " ".join(str(found).split()))
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", None) != "SQLITE_INTERRUPT":
            raise
    finally:
        connection.set_progress_handler(None, 0)


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")
