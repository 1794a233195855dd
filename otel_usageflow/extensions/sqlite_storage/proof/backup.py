"""Backing up a ledger while the service writes it: one consistent moment, checked, and ready to be put in its place.

The copy is made by SQLite's online backup from a connection that keeps one snapshot, so that it never begins anew,
however much is written meanwhile, and never keeps the writer waiting.
"""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from otel_usageflow.errors import StorageError
from otel_usageflow.extensions.sqlite_storage import exact
from otel_usageflow.extensions.sqlite_storage.damage import damaged, explained, is_damage, of_connection
from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.extensions.sqlite_storage.proof.copies import mark_copy
from otel_usageflow.extensions.sqlite_storage.proof.output_file import new_file
from otel_usageflow.ledger.audit import COPIED
from otel_usageflow.ledger.verification import Head, Progress

_PAGES = 2_000
"""Pages copied between two reports of progress."""
_ROOM = 16 * 1024 * 1024
"""Bytes that must stay free besides the copy."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What was made."""

    size: int
    """Bytes."""
    head: Head
    """The last entry of the audit log of the ledger itself at that moment; the copy has one more."""
    uncertain_events: int


def back_up(connection: sqlite3.Connection, path: Path, now: Callable[[], float], progress: Progress) -> Backup:
    """Copy the ledger that `connection` reads to a new file.

    Raises:
        UsageError: the file exists.
        StorageError: there is no room, the file cannot be written, or the ledger is damaged.
    """
    source = of_connection(connection)
    with new_file(path) as partial:
        try:
            # From the first read on, this connection sees one moment; everything after it is not in the copy.
            connection.execute("BEGIN")
            newest = audit.last(connection)
            at = now()
            _check_room(connection, path)
            with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
                connection.backup(
                    copy, pages=_PAGES, progress=lambda _, left, all_: progress("copying", all_ - left, all_)
                )
                connection.execute("ROLLBACK")
                uncertain = _finish(copy, source, at, progress)
        except sqlite3.Error as error:
            if is_damage(error):
                raise explained(error, source) from error
            raise StorageError(
                f"{path} cannot be written: {error}; make room, or choose another disk; nothing of it was kept"
            ) from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        size = partial.stat().st_size
    head = Head(0, "") if newest is None else Head(newest.entry, newest.hash.hex())
    return Backup(size, head, uncertain)


def _check_room(connection: sqlite3.Connection, path: Path) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    needed, free = pages * size + _ROOM, shutil.disk_usage(path.parent).free
    if free < needed:
        raise StorageError(
            f"{path.parent} has {free // 2**20} MiB free, and the backup needs {needed // 2**20} MiB; "
            "make room, or choose another disk"
        )


def _finish(copy: sqlite3.Connection, source: Path, at: float, progress: Progress) -> int:
    """Mark the copy as one, check it, and make it a single file."""
    exact.register(copy)
    copy.execute("PRAGMA journal_mode = DELETE")
    copy.execute("PRAGMA synchronous = FULL")
    copy.execute("BEGIN IMMEDIATE")
    uncertain = mark_copy(copy, COPIED, at)
    copy.execute("COMMIT")
    copy.set_progress_handler(lambda: progress("checking", 0, 0), 1_000_000)
    for (line,) in copy.execute("PRAGMA quick_check(1)"):
        if line != "ok":
            raise damaged(source, f"its copy says: {' '.join(str(line).split())}")
    return uncertain
