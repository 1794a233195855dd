"""Reading beside the writer: one consistent state of the ledger, in a thread, on a connection of its own."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from otel_usageflow.errors import StorageError, Unavailable
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading

T = TypeVar("T")


async def look_into(directory: Path, read: Callable[[sqlite3.Connection], T]) -> T:
    """What `read` returns of one state of the ledger; it returns no open cursor.

    Raises:
        Unavailable: it cannot be read now.
    """

    def look() -> T:
        try:
            with closing(open_for_reading(directory)) as connection:
                connection.execute("BEGIN")
                return read(connection)
        except (StorageError, sqlite3.OperationalError) as error:
            raise Unavailable(f"the ledger cannot be read: {error}") from error

    return await asyncio.to_thread(look)
