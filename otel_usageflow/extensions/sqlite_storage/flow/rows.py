"""Many rows in one statement, so that SQLite works through them in one go.

`executemany` gives the interpreter's lock back and takes it again for every row. Beside a busy event loop each of
these takes up to five milliseconds, whatever the row costs. For the same reason what is left of the rows is not cut
into pieces that fit, but filled up with empty rows, which the statement does not get to see.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

_MOST: Final = 512
"""Rows of a statement. Others have a power of two: few different ones, so that SQLite's compiled statements are used
again."""


def execute_rows(
    connection: sqlite3.Connection,
    statement: str,
    rows: Sequence[tuple[Any, ...]],
    constants: Sequence[Any] = (),
) -> int:
    """Run a statement on rows of one width; return how many rows of the ledger it has changed.

    The statement finds them in the table `given`, with the columns `column1` and so on; it has no WITH of its own.
    `constants` are the parameters that come before those of the rows, `?1` and so on. Bytes cost less as a bytearray:
    Python's module asks each value of another type than int, float, str and bytearray how it wants to be stored.
    """
    before = connection.total_changes  # `rowcount` knows nothing of statements that begin with WITH
    for _ in _run(connection, statement, rows, constants):
        pass
    return connection.total_changes - before


def select_rows(
    connection: sqlite3.Connection,
    statement: str,
    rows: Sequence[tuple[Any, ...]],
    constants: Sequence[Any] = (),
) -> list[Any]:
    """What a query finds for rows of one width."""
    return [found for cursor in _run(connection, statement, rows, constants) for found in cursor.fetchall()]


def _run(
    connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]], constants: Sequence[Any]
) -> Iterator[sqlite3.Cursor]:
    for start in range(0, len(rows), _MOST):
        some = rows[start : start + _MOST]
        width, size = len(some[0]), 1 << (len(some) - 1).bit_length()
        text = _written(statement, size, width, len(constants))
        empty = (0,) * (width * (size - len(some)))
        yield connection.execute(text, (*constants, *chain.from_iterable(some), *empty, len(some)))


@lru_cache(256)
def _written(statement: str, rows: int, width: int, constants: int) -> str:
    # What has a number is looked up by it while SQLite compiles, one by one. So only the constants have, and for the
    # rows' parameters to follow them, these stand first.
    numbered = ", ".join(f"?{number}" for number in range(1, constants + 1)) or "0"
    row = f"({', '.join('?' * width)})"
    return (
        f"WITH constants AS (SELECT {numbered}), "
        f"given AS (SELECT * FROM (VALUES {', '.join([row] * rows)}) LIMIT ?) {statement}"
    )
