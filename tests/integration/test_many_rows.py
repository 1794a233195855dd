"""Many rows in one statement: all of them, no others, and how many were new."""

import sqlite3
from contextlib import closing

import pytest

from otel_usageflow.extensions.sqlite_storage.flow.rows import execute_rows, select_rows

INSERT = "INSERT OR IGNORE INTO numbers SELECT column1, column2, ?1 FROM given"
FIND = "SELECT n, text FROM given CROSS JOIN numbers ON n = column1 AND mark = ?1"


@pytest.mark.parametrize("count", [0, 1, 3, 64, 511, 512, 513, 1_300])
def test_exactly_the_given_rows_arrive(count: int) -> None:
    """However many rows are given, these are written and found, and nothing that only fills a statement up."""
    rows = [(number, f"row {number}") for number in range(1, count + 1)]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY, text, mark)")
        assert execute_rows(connection, INSERT, rows, (7,)) == count
        assert connection.execute("SELECT n, text, mark FROM numbers").fetchall() == [(*row, 7) for row in rows]
        assert select_rows(connection, FIND, rows, (7,)) == rows
        assert select_rows(connection, FIND, rows, (8,)) == []


def test_what_was_there_does_not_count_as_changed() -> None:
    """Rows that are ignored because they are there are not counted: that is how a commit sees duplicates."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE numbers (n PRIMARY KEY, text, mark) WITHOUT ROWID")
        assert execute_rows(connection, INSERT, [(bytearray(b"a"), "x"), (bytearray(b"b"), "x")], (1,)) == 2
        assert execute_rows(connection, INSERT, [(bytearray(b"b"), "x"), (bytearray(b"c"), "x")], (2,)) == 1
