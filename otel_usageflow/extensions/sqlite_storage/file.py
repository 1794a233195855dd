"""The ledger's file: where it is, how it is opened, and what is said when it cannot be.

Nothing here ever starts with a fresh ledger because the old one cannot be read.
"""

import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from otel_usageflow.errors import LedgerInUse, SchemaTooNew, StorageError
from otel_usageflow.extensions.sqlite_storage import exact
from otel_usageflow.extensions.sqlite_storage.damage import (
    check_file,
    check_opened,
    explained,
    is_damage,
    of_connection,
)
from otel_usageflow.extensions.sqlite_storage.migration import migrate
from otel_usageflow.extensions.sqlite_storage.schema import APPLICATION_ID, MIGRATIONS

LEDGER = "ledger.db"
LOCK = "ledger.lock"


def lock(directory: Path) -> IO[bytes]:
    """Take the directory for this process alone; the lock is gone when the file is closed.

    Raises:
        LedgerInUse: another process has it.
        StorageError: the directory cannot be made or written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = (directory / LOCK).open("a+b", buffering=0)
    except OSError as error:
        raise StorageError(
            f"the ledger's directory {directory} cannot be used: {error.strerror}; "
            "make it writable for this user, or set extensions::sqlite_storage::directory"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        owner = handle.read().decode(errors="replace").strip() or "unknown"
        handle.close()
        raise LedgerInUse(
            f"the ledger in {directory} is in use by another otel-usageflow (process {owner}); "
            "stop that one first, or give this one a directory of its own"
        ) from None
    with suppress(OSError):  # a full disk; the number is only for people
        handle.truncate(0)
        handle.write(str(os.getpid()).encode())
    return handle


def open_for_writing(directory: Path) -> sqlite3.Connection:
    """The one write connection: WAL, fsync at every commit, schema up to date.

    Raises:
        StorageError: it cannot be opened; the message says what to do.
    """
    path = directory / LEDGER
    check_file(path)
    if not path.exists():
        _create(path)
    try:
        # Read-only: closing a connection that can write would move a damaged write-ahead log into the file.
        with closing(_connect_for_reading(path)) as looking:
            _check_owner(looking, path)
            check_opened(looking, path)
        # Statements for many rows are long, and take milliseconds to compile: none of them is to be forgotten.
        connection = sqlite3.connect(path, isolation_level=None, timeout=5, cached_statements=512)
        try:
            path.chmod(0o600)
            # check_same_thread stays on: a second writing thread would be a bug.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("PRAGMA cache_size = -65536")
            connection.execute("PRAGMA temp_store = MEMORY")
            exact.register(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA journal_size_limit = 67108864")  # after a burst the log shrinks again
            migrate(connection, uuid.uuid4().hex)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise explained(error, path) from error
    return connection


def _create(path: Path) -> None:
    """Make a new ledger: under another name first, so that an empty file is always a damaged one.

    Raises:
        StorageError: it cannot be made, and no part of it is left.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            exact.register(connection)
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect before the first table only
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")
            migrate(connection, uuid.uuid4().hex)
        fresh.rename(path)
        sync_directory(path.parent)
    except (OSError, sqlite3.Error) as error:
        fresh.unlink(missing_ok=True)
        fresh.with_name(fresh.name + "-journal").unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error):
            raise explained(error, path) from error
        raise StorageError(f"the ledger {path} cannot be made: {error.strerror}") from error


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_for_reading(directory: Path) -> sqlite3.Connection:
    """A connection that can only read, and never keeps the writer waiting.

    Raises:
        StorageError: there is no ledger, or it cannot be read.
    """
    path = directory / LEDGER
    check_file(path)
    if not path.exists():
        raise StorageError(f"there is no ledger in {directory} yet: the service has not run with this directory")
    return open_file_for_reading(path)


def open_file_for_reading(path: Path) -> sqlite3.Connection:
    """The same for any file, as a backup.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        connection = _connect_for_reading(path)
        exact.register(connection)
        connection.execute("PRAGMA query_only = ON")
        _check_owner(connection, path)
        _check_version(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise explained(error, path) from error
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
        exact.register(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise explained(error, path) from error
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
        if is_damage(error):
            raise explained(error, of_connection(connection)) from error
        raise StorageError(f"the ledger cannot be written: {error}; nothing was changed") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if is_damage(error):
            raise explained(error, of_connection(connection)) from error
        raise


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)


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
