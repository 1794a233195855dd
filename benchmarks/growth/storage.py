"""The storage as the service opens it, to fill a ledger through the same calls."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from throughput.customers import BOOK

from otel_usageflow.component import Context
from otel_usageflow.extensions.sqlite_storage import SqliteStorage, SqliteStorageConfig
from otel_usageflow.extensions.sqlite_storage.ledger import SqliteLedger

_WINDOW = 10


class NoHealth:
    """Nobody asks."""

    def report(self, source: str, problem: str | None) -> None:
        """Take a report."""

    def problems(self) -> dict[str, str]:
        """None."""
        return {}


@asynccontextmanager
async def ledger(directory: Path) -> AsyncIterator[SqliteLedger]:
    """The ledger of the exporter that is measured."""
    context = Context(id="sqlite_storage", health=NoHealth(), extensions={})
    async with SqliteStorage(SqliteStorageConfig(directory=directory), context) as storage:
        yield storage.ledger(BOOK, _WINDOW)
