"""Extension `sqlite_storage`: the durable ledger in one SQLite file."""

import re
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Self

import structlog
from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from otel_usageflow.component import Context, Factory, Kind
from otel_usageflow.config.types import ConfigModel, format_duration, parse_duration
from otel_usageflow.extensions.sqlite_storage.connect.ingest_tokens import SqliteIngestTokens
from otel_usageflow.extensions.sqlite_storage.damage import explained
from otel_usageflow.extensions.sqlite_storage.file import LEDGER, lock, open_for_writing
from otel_usageflow.extensions.sqlite_storage.ledger import SqliteLedger
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.reading.look import look_into
from otel_usageflow.extensions.sqlite_storage.reading.reader import SqliteReader, open_reader
from otel_usageflow.extensions.sqlite_storage.reading.trace_index import Indexed
from otel_usageflow.extensions.sqlite_storage.upkeep.keeper import AuditKeeper
from otel_usageflow.extensions.sqlite_storage.upkeep.rounds import Upkeep
from otel_usageflow.extensions.sqlite_storage.writer import Writer

_log = structlog.get_logger(__name__)


def _parse_days(value: Any) -> timedelta:
    """Read `35d`, or any duration."""
    days = re.fullmatch(r"(\d{1,5})d", str(value))
    return timedelta(days=int(days[1])) if days else parse_duration(value)


Days = Annotated[
    timedelta,
    BeforeValidator(_parse_days),
    PlainSerializer(lambda value: f"{value.days}d" if value == timedelta(value.days) else format_duration(value)),
    WithJsonSchema({"type": "string", "examples": ["35d", "400d"], "description": "days, or a duration with units"}),
]


class SqliteStorageConfig(ConfigModel):
    """Configuration of `extensions::sqlite_storage`."""

    directory: Path = Field(
        default=Path("usageflow-data"),
        description="Where the ledger lives. It is made if it does not exist, readable for this user only.",
    )
    retention: Days = Field(
        default=timedelta(days=35),
        description="How long usage is kept that is settled, in whole UTC days; at least a day. A span that is older "
        "is not billed.",
    )
    totals: Days = Field(
        default=timedelta(days=400),
        description="How long the sums of billed usage by day are kept, for `usage`; at least as long as usage.",
    )

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.retention < timedelta(days=1):
            raise ValueError("retention must be at least 1d")
        if self.totals < self.retention:
            raise ValueError("totals must be at least as long as retention")
        return self


class SqliteStorage:
    """Keeps ledgers. One process owns a directory at a time."""

    def __init__(self, config: SqliteStorageConfig, context: Context) -> None:
        self._directory = config.directory
        self._names: list[Names] = []
        self._lock: IO[bytes] | None = None
        self._writer = Writer(
            connect=lambda: open_for_writing(config.directory),
            report=lambda problem: context.health.report(context.id, problem),
            rolled_back=self._forget,
        )
        self.ingest_tokens = SqliteIngestTokens(
            lambda change: self._writer.run(change, weight=0), lambda read: look_into(config.directory, read)
        )
        """The tokens that let companies in."""
        self._keeper = AuditKeeper(self._writer, config.directory, context.clock)
        self._indexed = Indexed()
        self._given_up = Counter[str]()
        self._upkeep = Upkeep(
            self._writer,
            config.directory,
            self._indexed,
            context.clock,
            config.retention.total_seconds(),
            config.totals.total_seconds(),
            self._given_up,
        )

    @staticmethod
    def reader(config: SqliteStorageConfig) -> AbstractContextManager[SqliteReader]:
        """Reports from the ledger of this configuration, whether or not the service runs."""
        return open_reader(config.directory)

    @property
    def upkeep(self) -> Upkeep:
        """What is done in the background, to be done at once."""
        return self._upkeep

    @property
    def where(self) -> str:
        """The ledger's file, for people."""
        return str(self._directory.resolve() / LEDGER)

    def ledger(self, book: str, window: int) -> SqliteLedger:
        """The ledger of one exporter. `window` is the length of its windows in seconds, 1 to 60."""
        names = Names(book)
        self._names.append(names)
        return SqliteLedger(self._writer, self._directory, names, self._indexed, book, window, self._given_up)

    async def note_configuration(self, settings: Mapping[str, object]) -> None:
        """Write into the audit log what decides about money, if it has changed; see `ledger.ledger.Storage`."""
        await self._keeper.note_configuration(settings)

    async def record_configuration(self, settings: Mapping[str, object], why: str) -> None:
        """The same while usage comes, at once or not at all; see `ledger.ledger.Storage`."""
        await self._keeper.record_configuration(settings, why)

    async def __aenter__(self) -> Self:
        self._lock = lock(self._directory)
        try:
            await self._writer.start()
        except BaseException:
            self._lock.close()
            raise
        try:
            await self._upkeep.start()
        except BaseException as error:
            await self._writer.stop()
            self._lock.close()
            if isinstance(error, sqlite3.Error):
                raise explained(error, self._directory / LEDGER) from error
            raise
        self._keeper.start()
        _log.info("ledger_opened", file=self.where)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._keeper.stop()
        await self._upkeep.stop()
        await self._writer.stop()
        if self._lock is not None:
            self._lock.close()

    def _forget(self) -> None:
        for names in self._names:
            names.forget()


FACTORY = Factory(
    kind=Kind.EXTENSION, name="sqlite_storage", config=SqliteStorageConfig, build=SqliteStorage, serves="storage"
)
