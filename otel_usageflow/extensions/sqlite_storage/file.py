"""The ledger's file: where it is, how it is opened, and what is said when it cannot be.

Nothing here ever starts with a fresh ledger because the old one cannot be read.
"""

import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from otel_usageflow.errors import LedgerInUse, SchemaTooNew, StorageCorrupt, StorageError
from otel_usageflow.extensions.sqlite_storage.commit import exact_sum
from otel_usageflow.extensions.sqlite_storage.schema import APPLICATION_ID, MIGRATIONS, migrate

LEDGER = "ledger.db"
LOCK = "ledger.lock"

_RECOVER = (
    "nothing was changed. Keep a copy of {path}*, then recover what can be read with "
    '`sqlite3 {path} ".recover" | sqlite3 recovered.db`, or restore a backup'
)


def lock(directory: Path) -> IO[str]:
    """Take the directory for this process alone; the lock is gone when the file is closed.

    Raises:
        LedgerInUse: another process has it.
        StorageError: the directory cannot be made or written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = (directory / LOCK).open("a+")
    except OSError as error:
        raise StorageError(
            f"the ledger's directory {directory} cannot be used: {error.strerror}; "
            "make it writable for this user, or set extensions::sqlite_storage::directory"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        handle.close()
        raise LedgerInUse(
            f"the ledger in {directory} is in use by another otel-usageflow (process {owner}); "
            "stop that one first, or give this one a directory of its own"
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def open_for_writing(directory: Path) -> sqlite3.Connection:
    """The one write connection: WAL, fsync at every commit, schema up to date.

    Raises:
        StorageError: it cannot be opened; the message says what to do.
    """
    path = directory / LEDGER
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=5)
        path.chmod(0o600)
        # check_same_thread stays on: a second writing thread would be a bug.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a new file, before its first table
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.create_function("exact_sum", 2, exact_sum, deterministic=True)
        _check_owner(connection, path)
        migrate(connection, uuid.uuid4().hex)
    except sqlite3.Error as error:
        raise _explained(error, path) from error
    return connection


def open_for_reading(directory: Path) -> sqlite3.Connection:
    """A connection that can only read, and never keeps the writer waiting.

    Raises:
        StorageError: there is no ledger, or it cannot be read.
    """
    path = directory / LEDGER
    if not path.exists():
        raise StorageError(f"there is no ledger in {directory} yet: the service has not run with this directory")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        connection.create_function("exact_sum", 2, exact_sum, deterministic=True)
        connection.execute("PRAGMA query_only = ON")
        _check_owner(connection, path)
        _check_version(connection)
    except sqlite3.Error as error:
        raise _explained(error, path) from error
    return connection


def open_for_commands(directory: Path) -> sqlite3.Connection:
    """A connection for the short transactions of a command, while the service writes the ledger or not.

    SQLite lets one transaction write at a time, of whichever process; the service waits for a command's, so each must
    be over in milliseconds. A command only touches what the service has put aside: quarantine, and meter events that
    have an answer. What it releases, the service takes up from the ledger.

    Raises:
        StorageError: there is no ledger, it cannot be written, or it has another schema version.
    """
    open_for_reading(directory).close()
    path = directory / LEDGER
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        connection.create_function("exact_sum", 2, exact_sum, deterministic=True)
    except sqlite3.Error as error:
        raise _explained(error, path) from error
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One change of a command: all of it, or nothing.

    Raises:
        StorageError: the ledger could not be written, and nothing was.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        raise StorageError(f"the ledger cannot be written: {error}; nothing was changed") from error


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise StorageError(f"{path} is a database of something else; give the ledger a directory of its own")


def _check_version(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < len(MIGRATIONS):
        raise StorageError(
            f"the ledger has schema version {version}, and this version of otel-usageflow needs {len(MIGRATIONS)}: "
            "start the service once with this version, which brings the ledger up to date"
        )
    if version > len(MIGRATIONS):
        raise SchemaTooNew(
            f"the ledger has schema version {version}, and this version of otel-usageflow knows only up to "
            f"{len(MIGRATIONS)}; use the newer version that wrote it"
        )


def _explained(error: sqlite3.Error, path: Path) -> StorageError:
    corrupt = isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorname in (
        "SQLITE_CORRUPT",
        "SQLITE_NOTADB",
    )
    if corrupt:
        return StorageCorrupt(f"the ledger {path} is damaged ({error}); " + _RECOVER.format(path=path))
    return StorageError(f"the ledger {path} cannot be opened: {error}; check the disk and the file's permissions")
