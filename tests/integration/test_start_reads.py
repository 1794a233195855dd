"""What a start reads of the ledger does not grow with what is settled in it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from ledgers import book

from otel_usageflow.extensions.sqlite_storage.flow import customers

TABLES = ("meter_events", "records", "windows")


async def test_a_start_looks_through_no_table_that_grows(tmp_path: Path) -> None:
    """The terms of what is unfinished are found by indexes of what is unfinished."""
    async with book(tmp_path):
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
            asked: list[str] = []
            connection.set_trace_callback(asked.append)
            customers.unfinished(connection, "stripe_meter")
            connection.set_trace_callback(None)
            assert asked
            for statement in asked:
                plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
                scanned = {step.split()[1] for step in plan if step.startswith("SCAN ") and " USING " not in step}
                assert not scanned & {*TABLES, "e"}, plan
