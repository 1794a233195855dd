"""What people do with a whole ledger, running or not: read its audit log, verify, export, back up, recover."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from otel_usageflow.errors import StorageCorrupt, StorageError
from otel_usageflow.extensions.sqlite_storage.damage import check_file, explained, is_damage, recovery
from otel_usageflow.extensions.sqlite_storage.file import LEDGER, open_file_for_reading, open_for_reading
from otel_usageflow.extensions.sqlite_storage.proof import audit, backup, export
from otel_usageflow.extensions.sqlite_storage.proof import recover as recovering
from otel_usageflow.extensions.sqlite_storage.proof.verify import verify
from otel_usageflow.ledger.audit import Entry
from otel_usageflow.ledger.export import What
from otel_usageflow.ledger.verification import Head, Progress, Verification


def audit_entries(directory: Path, since: float | None, until: float | None, action: str | None) -> Iterator[Entry]:
    """The audit log of the ledger in `directory`, oldest first; times in unix seconds.

    Raises:
        StorageError: there is no ledger, or it cannot be read.
    """
    with _snapshot(directory) as connection:
        for entry in audit.entries(connection):
            in_time = (since is None or entry.at >= since) and (until is None or entry.at < until)
            if in_time and action in (None, entry.action):
                yield entry


def verify_ledger(path: Path, expect: Head | None, progress: Progress) -> Verification:
    """Check a ledger, or a backup, by its directory or its file. Damage is a finding.

    Raises:
        StorageError: there is no ledger, or it is of another version.
    """
    alone = path.is_file()
    file = path if alone else path / LEDGER
    try:
        check_file(file)
        with closing(open_file_for_reading(path) if alone else open_for_reading(path)) as connection:
            return verify(connection, file, expect, progress)
    except StorageCorrupt as error:
        found = Verification()
        found.find("file", str(file), str(error).removesuffix(f"; {recovery(file)}"), recovery(file))
        return found


@contextmanager
def exported(directory: Path, what: What, since: float | None, until: float | None) -> Iterator[Iterator[export.Row]]:
    """Rows of one consistent moment; see `ledger.export.COLUMNS`.

    Raises:
        StorageError: there is no ledger, or it cannot be read.
    """
    with _snapshot(directory) as connection, closing(export.rows(connection, what, since, until)) as rows:
        yield rows


def back_up(directory: Path, path: Path, progress: Progress) -> backup.Backup:
    """Copy the ledger in `directory` to a new file; see `backup.back_up`."""
    with closing(open_for_reading(directory)) as connection:
        return backup.back_up(connection, path, time.time, progress)


def recover(path: Path, output: Path, progress: Progress) -> recovering.Recovered:
    """Recover a damaged ledger into a new file; see `recover.recover`."""
    return recovering.recover(path, output, time.time, progress)


@contextmanager
def _snapshot(directory: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_for_reading(directory)) as connection:
        try:
            connection.execute("BEGIN")
            yield connection
        except sqlite3.Error as error:
            if is_damage(error):
                raise explained(error, directory / LEDGER) from error
            raise StorageError(f"the ledger cannot be read: {error}") from error
