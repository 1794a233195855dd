"""Many rows in one statement, so that SQLite works through them in one go.

`executemany` gives the interpreter's lock back and takes it again for every row. Beside a busy event loop each of
these takes up to five milliseconds, whatever the row costs.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

_SIZES: Final = (256, 64, 16, 4, 1)
"""Rows of a statement: few different ones, so that SQLite's compiled statements are used again."""


Statement = Callable[[str], str]
"""Writes a statement for rows of marks, `(?, ?), (?, ?)`. A function of a module: what it wrote is kept."""


def execute_rows(
    connection: sqlite3.Connection,
    statement: Statement,
    rows: Sequence[tuple[Any, ...]],
    constants: Sequence[Any] = (),
) -> int:
    """Run a statement on rows of one width; return how many rows of the ledger it has changed.

    `constants` are the parameters that come before those of the rows, `?1` and so on.
    """
    return sum(cursor.rowcount for cursor in _run(connection, statement, rows, constants))


def select_rows(
    connection: sqlite3.Connection,
    statement: Statement,
    rows: Sequence[tuple[Any, ...]],
    constants: Sequence[Any] = (),
) -> list[Any]:
    """What a query finds for rows of one width."""
    return [found for cursor in _run(connection, statement, rows, constants) for found in cursor.fetchall()]


def _run(
    connection: sqlite3.Connection, statement: Statement, rows: Sequence[tuple[Any, ...]], constants: Sequence[Any]
) -> Iterator[sqlite3.Cursor]:
    start = 0
    for size in _SIZES:
        while len(rows) - start >= size:
            text = _written(statement, size, len(rows[0]), len(constants))
            yield connection.execute(text, (*constants, *chain.from_iterable(rows[start : start + size])))
            start += size


@lru_cache(256)
def _written(statement: Statement, rows: int, width: int, constants: int) -> str:
    numbers = range(constants + 1, constants + 1 + rows * width)
    marks = [f"?{number}" for number in numbers]
    return statement(", ".join(f"({', '.join(marks[at : at + width])})" for at in range(0, len(marks), width)))
