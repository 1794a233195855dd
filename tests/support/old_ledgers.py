"""Ledgers of the first schema, for tests of the upgrade."""

import sqlite3
from contextlib import closing
from pathlib import Path

from otel_usageflow.extensions.sqlite_storage.schema import MIGRATIONS


def as_version_1(path: Path) -> None:
    """Put the rows of a ledger into one of the first schema, which takes its place."""
    old = path.with_name("old.db")
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        for statement in MIGRATIONS[0].split(";\n"):
            connection.execute(statement)
        connection.execute("ATTACH ? AS new", (str(path),))
        tables = connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall()
        for (table,) in tables:
            names = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
            connection.execute(f"INSERT INTO main.{table} SELECT {', '.join(names)} FROM new.{table}")
        connection.execute(f"PRAGMA application_id = {connection.execute('PRAGMA new.application_id').fetchone()[0]}")
        connection.execute("PRAGMA user_version = 1")
    for file in path.parent.glob("ledger.db*"):
        file.unlink()
    old.rename(path)
