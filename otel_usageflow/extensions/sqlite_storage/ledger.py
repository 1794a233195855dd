"""The ledger on SQLite: every method hands one change to the writer and waits until it is on the disk.

What only reads, and may read much, does so in a thread on a connection of its own, and never keeps the writer
waiting.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from otel_usageflow.extensions.sqlite_storage.connect import ingest_tokens
from otel_usageflow.extensions.sqlite_storage.connect.connection_ledger import SqliteConnections
from otel_usageflow.extensions.sqlite_storage.correction.corrections import SqliteCorrections
from otel_usageflow.extensions.sqlite_storage.doubt.doubt_ledger import SqliteDoubts
from otel_usageflow.extensions.sqlite_storage.doubt.reconcile import SqliteSums
from otel_usageflow.extensions.sqlite_storage.flow import (
    batches,
    customers,
    events,
    identity,
    listings,
    trace_rows,
    trace_settling,
    windows,
)
from otel_usageflow.extensions.sqlite_storage.flow.commit import can_share, commit_together, commit_usage
from otel_usageflow.extensions.sqlite_storage.flow.former import places, without_known
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.quarantine.release_ledger import SqliteReleases
from otel_usageflow.extensions.sqlite_storage.reading.look import look_into
from otel_usageflow.extensions.sqlite_storage.reading.trace_index import Indexed
from otel_usageflow.extensions.sqlite_storage.writer import Writer
from otel_usageflow.ledger.former import Filed, Former
from otel_usageflow.ledger.freeze import FreezeRules
from otel_usageflow.ledger.ledger import (
    Committed,
    CustomerChange,
    DirectoryState,
    TracesSettled,
    Waiting,
    WaitingTraces,
)
from otel_usageflow.ledger.listing import Listing
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Outcome
from otel_usageflow.model.usage import Reason, Terms, UsageBatch

T = TypeVar("T")

_TRACES_AT_ONCE = 200
"""Requests that are decided about in one transaction, so that commits never wait for long."""


class SqliteLedger:
    """One exporter's book in the database. See `ledger.ledger.Ledger` for what the methods promise."""

    def __init__(
        self,
        writer: Writer,
        directory: Path,
        names: Names,
        indexed: Indexed,
        book: str,
        window: int,
        given_up: Counter[str],
    ) -> None:
        self._writer = writer
        self._directory = directory
        self._names = names
        self._indexed = indexed
        self._book = book
        self._window = window
        self._resume: dict[int, windows.Place] = {}
        self._sealed = False
        self._former: Former | None = None
        self._dues_mended = False
        self._given_up = given_up
        self.doubts = SqliteDoubts(self._run, self._look, names, book)
        self.releases = SqliteReleases(self._run, self._look, names, book)
        self.corrections = SqliteCorrections(self._run, self._look, book)
        self.sums = SqliteSums(self._run, self._look, book)
        self.connections = SqliteConnections(self._run, self._look, book)

    async def commit(self, batch: UsageBatch, now: float) -> Committed:
        """Take usage. What is there already is not taken twice."""
        if not self._sealed:
            await self._run(lambda c: windows.seal(c, self._book, self._window))
            self._sealed = True
        weight = len(batch.records) + len(batch.unflagged) + len(batch.trace_requests) + len(batch.trace_spans)
        if self._former is None and can_share(batch):
            committed = await self._writer.run_together(self._commit_together, (batch, now), weight=max(weight, 1))
        else:
            committed = await self._writer.run(self._commit(batch, now, self._former), weight=max(weight, 1))
        reached("commit: durable")
        return committed

    def _commit(
        self, batch: UsageBatch, now: float, former: Former | None
    ) -> Callable[[sqlite3.Connection], Committed]:
        def commit(connection: sqlite3.Connection) -> Committed:
            new = batch if former is None else without_known(connection, self._names, batch, former)
            return commit_usage(connection, self._names, new, self._window, now, self._indexed)

        return commit

    def _commit_together(
        self, connection: sqlite3.Connection, items: Sequence[tuple[UsageBatch, float]]
    ) -> list[Committed]:
        batches = [batch for batch, _ in items]
        now = max(moment for _, moment in items)
        return commit_together(connection, self._names, batches, self._window, now, self._indexed)

    async def places(self, policies: Collection[str]) -> list[Filed]:
        """Where policies of these names have billed, as far as the ledger reaches."""
        return await self._look(lambda c: places(c, self._book, policies))

    def recognise(self, former: Former) -> None:
        """From now on, do not take what its policy has billed elsewhere."""
        self._former = former if former.others else None

    async def settle_traces(self, now: float) -> TracesSettled:
        """File requests whose wait for spans of their trace is over, and late spans."""
        if not self._dues_mended:
            await self._run(lambda c: trace_settling.mend_dues(c, self._names, now))
            self._dues_mended = True
        done = await self._run(
            lambda c: trace_settling.settle_due(c, self._names, self._window, now, _TRACES_AT_ONCE, self._indexed)
        )
        if done.requests:
            reached("traces: durable")
        return done

    async def waiting_traces(self) -> WaitingTraces:
        """What waits for spans of its trace."""
        waiting = await self._look(lambda c: trace_rows.waiting(c, self._book))
        return waiting._replace(given_up=self._given_up[self._book])

    async def freeze(self, rules: FreezeRules, limit: int) -> list[MeterEvent]:
        """Turn due windows into meter events."""
        frozen = await self._run(
            lambda c: windows.freeze(c, self._book, rules, limit, self._resume, self._names.lookup)
        )
        if frozen:
            reached("freeze: durable")
        return frozen

    async def unsettled(self, after: int, limit: int) -> list[MeterEvent]:
        """Meter events without a definite answer and with an id above `after`."""
        return await self._run(lambda c: events.unsettled(c, self._book, after, limit))

    async def take_released(self, limit: int) -> list[MeterEvent]:
        """Meter events that were made or released outside of freezing, each told once in the life of a process."""
        return await self._run(lambda c: events.take_released(c, self._book, limit))

    async def begin(self, events_: Sequence[MeterEvent], now: float) -> None:
        """Write down that an attempt at each begins."""
        await self._run(lambda c: events.begin(c, events_, now))
        reached("begin: durable")

    async def settle(self, event: MeterEvent, outcome: Outcome, now: float) -> None:
        """Write down what became of an attempt."""
        await self._run(lambda c: events.settle(c, event, outcome, now))
        reached("settle: durable")

    async def begin_batches(self, batches_: Sequence[Sequence[MeterEvent]], now: float) -> list[str]:
        """Write down that calls begin that carry several events each, and which; return their idempotency keys."""
        keys = await self._run(lambda c: batches.begin(c, batches_, now))
        reached("begin: durable")
        return keys

    async def settle_batch(self, settled: Sequence[tuple[MeterEvent, Outcome]], now: float) -> None:
        """Write down what became of all events of one call."""

        def settle(connection: sqlite3.Connection) -> None:
            for event, outcome in settled:
                events.settle(connection, event, outcome, now)

        await self._run(settle)
        reached("settle: durable")

    async def expire(self, event: MeterEvent, now: float) -> None:
        """Set an uncertain event aside that is too old to be sent again safely."""
        await self._run(lambda c: events.expire(c, event, now))

    async def directory(self, account: str, fields: Sequence[str]) -> DirectoryState:
        """How far the customer directory of an account is."""
        return await self._run(lambda c: listings.state(c, self._names.account(c, account), fields))

    async def apply_customers(
        self, account: str, fields: Sequence[str], changes: Sequence[CustomerChange], generation: int
    ) -> None:
        """Take customers into the directory, and reopen the usage that waited for one of them."""
        names = self._names
        await self._run(
            lambda c: customers.apply(c, names.lookup, names.account(c, account), fields, changes, generation)
        )

    async def known_customers(
        self, account: str, fields: Sequence[str], ids: Collection[str]
    ) -> Mapping[str, Mapping[str, str]]:
        """What the directory says of these customers."""
        return await self._run(lambda c: customers.known(c, self._names.account(c, account), fields, ids))

    async def begin_listing(self, account: str, fields: Sequence[str], started: float) -> Listing:
        """Begin to list all customers."""
        return await self._run(lambda c: listings.begin(c, self._names.account(c, account), fields, started))

    async def list_page(
        self, account: str, listing: Listing, page: Sequence[CustomerChange], created: int
    ) -> Listing:
        """Take in the customers that follow."""
        names = self._names
        return await self._run(
            lambda c: listings.take_page(c, names.lookup, names.account(c, account), listing, page, created)
        )

    async def finish_listing(self, account: str, fields: Sequence[str], generation: int, listed_at: float) -> None:
        """Forget the customers that this listing did not see, step by step, and call the fields complete."""
        names = self._names
        for field in fields:
            place: listings.Place | None = listings.BEGINNING
            while place is not None:
                place = await self._run(
                    lambda c, field=field, place=place: listings.sweep(  # type: ignore[misc]
                        c, names.lookup, names.account(c, account), field, generation, place
                    )
                )
        await self._run(lambda c: listings.finish(c, names.account(c, account), fields, generation, listed_at))

    async def follow(self, account: str, cursor: float) -> None:
        """Remember up to where changes were applied."""
        await self._run(lambda c: customers.follow(c, self._names.account(c, account), cursor))

    async def unfinished(self) -> list[Terms]:
        """The terms of usage that is not in a meter event yet, whichever policies stand in the configuration now."""
        return await self._run(lambda c: customers.unfinished(c, self._book))

    async def token_accounts(self) -> frozenset[str]:
        """The accounts for which there ever were ingest tokens."""
        return await self._look(lambda c: ingest_tokens.accounts(c, self._book))

    async def waiting(self, reasons: Sequence[Reason], limit: int) -> list[Waiting]:
        """Distinct usage that is held for one of these reasons."""
        return await self._run(lambda c: customers.waiting(c, self._book, reasons, limit))

    async def reopen_meter(self, account: str, event_name: str) -> None:
        """Reopen the usage that waited for a meter."""
        await self._run(lambda c: customers.reopen_meter(c, self._names.meter(c, account, event_name)))

    async def known_meters(self, account: str) -> frozenset[str]:
        """Ids of the account's meters that were fed so far."""
        return await self._look(lambda c: identity.known(c, self._book, account))

    async def remember_meters(self, account: str, meters: Collection[str]) -> None:
        """From now on the account is known by these, too."""
        await self._run(lambda c: identity.remember(c, self._names.account(c, account), meters))

    async def _look(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Read one consistent state of the ledger in a thread; raises `Unavailable`."""
        return await look_into(self._directory, read)

    async def _run(self, change: Callable[[sqlite3.Connection], T]) -> T:
        return await self._writer.run(change, weight=0)
