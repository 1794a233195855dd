"""A ledger on its own, for tests that need no exporter: with a clock that is told what time it is."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from billing import QuietHealth

from otel_usageflow.component import Context
from otel_usageflow.extensions.sqlite_storage import SqliteStorage, SqliteStorageConfig
from otel_usageflow.extensions.sqlite_storage.ledger import SqliteLedger
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.freeze import Formula, FreezeRules, Lane
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.ledger.report import UsageLine
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.usage import Reason, UsageBatch

METER = ("", "api_request")


@dataclass
class Book:
    """An open ledger, and what the exporter would know."""

    ledger: SqliteLedger
    storage: SqliteStorage
    directory: Path
    health: QuietHealth = field(default_factory=QuietHealth)
    meters: dict[tuple[str, str], Formula | Reason] = field(default_factory=lambda: {METER: Formula.SUM})
    fields: tuple[str, ...] = ("account_id",)

    async def commit(self, batch: UsageBatch, now: float) -> None:
        """Take usage."""
        await self.ledger.commit(batch, now)

    async def list_customers(self, customers: Mapping[str, str], generation: int = 1) -> None:
        """A complete listing: user -> customer."""
        changes = [CustomerChange(customer, {"account_id": user}) for user, customer in customers.items()]
        await self.ledger.apply_customers("", self.fields, changes, generation)
        await self.ledger.finish_listing("", self.fields, generation, 1.0)

    async def freeze(
        self,
        now: float,
        *,
        max_window: int = 60,
        one_by_one: bool = False,
        busy: Callable[[Lane], bool] = lambda _lane: False,
    ) -> list[MeterEvent]:
        """Freeze what is due."""
        rules = FreezeRules(now, max_window, one_by_one, self.meters, {("", name) for name in self.fields}, busy)
        return await self.ledger.freeze(rules, 1_000)

    def usage(self) -> list[UsageLine]:
        """The report."""
        with open_reader(self.directory) as reader:
            return reader.usage(None, None)

    def standings(self) -> dict[tuple[str, str, str | None], tuple[int, str]]:
        """(user, standing, reason) -> (requests, quantity)."""
        return {(u.user, u.standing, u.reason): (u.requests, str(u.quantity)) for u in self.usage()}


@asynccontextmanager
async def book(directory: Path, window: int = 10) -> AsyncIterator[Book]:
    """A ledger in `directory`."""
    health = QuietHealth()
    context = Context(id="sqlite_storage", health=health, extensions={})
    async with SqliteStorage(SqliteStorageConfig(directory=directory), context) as storage:
        yield Book(storage.ledger("stripe_meter test", window), storage, directory, health)
