"""How an older ledger, or an empty file, becomes one of this version; the audit log tells of it."""

import sqlite3
import time

from otel_usageflow.errors import SchemaTooNew
from otel_usageflow.extensions.sqlite_storage.proof.audit import record
from otel_usageflow.extensions.sqlite_storage.schema import APPLICATION_ID, MIGRATIONS
from otel_usageflow.ledger.audit import CREATED, MIGRATED, SERVICE, Change


def migrate(connection: sqlite3.Connection, ledger_id: str) -> None:
    """Bring a ledger, or an empty file, to the version of this program.

    Raises:
        SchemaTooNew: the ledger was written by a newer version.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise SchemaTooNew(
            f"the ledger has schema version {version}, and this version of otel-usageflow knows only up to "
            f"{len(MIGRATIONS)}; run the newer version that wrote it, or restore a backup made before the upgrade"
        )
    for number in range(version, len(MIGRATIONS)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[number].split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            if number == 0:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute("INSERT INTO ledger VALUES (1, ?, 0)", (ledger_id,))
            connection.execute(f"PRAGMA user_version = {number + 1}")
            if change := _told(connection, version, number):
                record(connection, change, time.time())
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _told(connection: sqlite3.Connection, version: int, number: int) -> Change | None:
    """What the audit log says about a step of the schema from `number`, in a ledger that began at `version`.

    A ledger that is made now is told of once, at its last step; the first schema has no audit log.
    """
    if number == 0:
        return None
    (ledger_id,) = connection.execute("SELECT ledger_id FROM ledger").fetchone()
    after = {"schema": number + 1, "ledger_id": ledger_id}
    if version == 0:
        return Change(SERVICE, CREATED, "ledger", after=after) if number + 1 == len(MIGRATIONS) else None
    return Change(SERVICE, MIGRATED, "ledger", before={"schema": number}, after=after)
