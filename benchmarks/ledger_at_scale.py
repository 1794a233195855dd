"""What a ledger of many millions of records costs: to start, to ask, to prune while usage comes in.

    make bench-ledger                             20 million records, some 15 minutes, 6 GB of disk
    make bench-ledger ARGS="--records 1000000"    a look

The ledger is kept with --directory, and used again when it is there.
"""

import argparse
import asyncio
import os
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import structlog
from big_ledger import BOOK, DAYS, TERMS, USERS, build, index

from otel_usageflow.component import Context
from otel_usageflow.extensions.sqlite_storage import SqliteStorage, SqliteStorageConfig
from otel_usageflow.extensions.sqlite_storage.file import LEDGER
from otel_usageflow.extensions.sqlite_storage.ledger import SqliteLedger
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.extensions.sqlite_storage.reading.trace_index import Indexed
from otel_usageflow.extensions.sqlite_storage.upkeep.rounds import Upkeep
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.usage import UsageBatch, UsageRecord

ASKED = 200
BATCH = 100
_PACE = 0.02
"""Seconds between two commits: 5,000 records a second."""


class NoHealth:
    """Nobody asks."""

    def report(self, source: str, problem: str | None) -> None:
        """Take a report."""

    def problems(self) -> dict[str, str]:
        """None."""
        return {}


class TimedUpkeep(Upkeep):
    """Notes how long its steps keep the writer."""

    times: list[float]

    async def _write(self, change: Callable[[sqlite3.Connection], Any]) -> Any:
        self.times = getattr(self, "times", [])

        def timed(connection: sqlite3.Connection) -> Any:
            began = time.perf_counter()
            try:
                return change(connection)
            finally:
                self.times.append(time.perf_counter() - began)

        return await super()._write(timed)


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000_000)
    parser.add_argument("--directory", type=Path, help="where the ledger is kept; default: a temporary directory")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    directory = arguments.directory or Path(tempfile.mkdtemp()) / "ledger"
    # The newest usage is of now; days are counted back from the end of yesterday.
    end = int(time.time()) // DAY * DAY
    try:
        if not (directory / LEDGER).exists():
            print(f"building {arguments.records:,} records in {directory}")
            build(directory, arguments.records, end)
            slices, took = index(directory)
            print(
                f"index of traces: {slices:,} slices in {took:.0f} s, "
                f"{1e6 * took / arguments.records:.2f} us a record"
            )
        asyncio.run(measure(directory, end))
    finally:
        if arguments.directory is None:
            shutil.rmtree(directory.parent)


async def measure(directory: Path, end: int) -> None:
    """Everything."""
    print(f"file: {(directory / LEDGER).stat().st_size / 1e9:.2f} GB")
    storage = SqliteStorage(
        SqliteStorageConfig(directory=directory), Context(id="sqlite_storage", health=NoHealth(), extensions={})
    )
    began = time.perf_counter()
    await storage.__aenter__()
    print(f"start-up of the storage: {1000 * (time.perf_counter() - began):.0f} ms")
    ask(directory, end)
    ledger = storage.ledger(BOOK, 10)
    await commits(ledger, 1.0)
    print("commits of 100 records, 50 a second:")
    print(f"  alone:          {shown(await commits(ledger, 20.0))}")
    pruning = asyncio.create_task(prune(storage, directory))
    times = []
    while not pruning.done():
        times += await commits(ledger, 1.0)
    print(f"  while pruning:  {shown(times)}")
    await pruning
    await storage.__aexit__(None, None, None)
    print(f"file: {(directory / LEDGER).stat().st_size / 1e9:.2f} GB")


def ask(directory: Path, end: int) -> None:
    """What the commands ask, each on a new connection as they do."""
    with closing(sqlite3.connect(directory / LEDGER)) as connection:
        chance = random.Random(2)
        seconds = [chance.randrange(end - (DAYS - 5) * DAY, end - 600) for _ in range(ASKED)]
        found = [
            connection.execute("SELECT key FROM records WHERE key > ? LIMIT 1", (s.to_bytes(4, "big"),))
            for s in seconds
        ]
        traces = [row.fetchone()[0][4:20] for row in found]
        first, last = connection.execute("SELECT min(event_id), max(event_id) FROM meter_events").fetchone()
        events = [
            connection.execute("SELECT identifier FROM meter_events WHERE event_id = ?", (number,)).fetchone()[0]
            for number in (chance.randrange(first, last) for _ in range(ASKED))
        ]
        counts = {t: connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("records", "windows")}
    print(f"{counts['records']:,} records, {counts['windows']:,} windows, {last:,} meter events, {USERS:,} users")

    def trace(number: int) -> None:
        with open_reader(directory) as reader:
            assert reader.explain_trace(traces[number])

    def event(number: int) -> None:
        with open_reader(directory) as reader:
            told = reader.explain_event(events[number])
            assert told is not None
            assert told[1]

    def report(since: float, until: float, by_day: bool = False) -> Callable[[int], None]:
        def run(_: int) -> None:
            with open_reader(directory) as reader:
                assert reader.usage(since, until, by_day=by_day)

        return run

    print(f"explain TRACE_ID, {ASKED} times: {shown(timed(trace, ASKED))}")
    print(f"explain --event, {ASKED} times:  {shown(timed(event, ASKED))}")
    print(f"usage of 30 days, 5 times:       {shown(timed(report(end - 30 * DAY, end), 5))}")
    print(f"usage --by day,user of 30 days:  {shown(timed(report(end - 30 * DAY, end, by_day=True), 5))}")
    print(f"usage of 30 days from noon on:   {shown(timed(report(end - 30.5 * DAY, end - 0.5 * DAY), 5))}")


def timed(what: Callable[[int], None], times: int) -> list[float]:
    """How long each took, in seconds."""
    found = []
    for number in range(times):
        began = time.perf_counter()
        what(number)
        found.append(time.perf_counter() - began)
    return found


async def commits(ledger: SqliteLedger, seconds: float) -> list[float]:
    """Commit at a steady pace; return how long each commit took, in seconds."""
    found: list[float] = []
    pending: set[asyncio.Task[None]] = set()

    async def one() -> None:
        now = time.time_ns()
        users = (f"user-{number}" for number in range(1, BATCH + 1))
        records = [
            UsageRecord(os.urandom(16), os.urandom(8), now, now, TERMS, user, "header x-account-id", 1)
            for user in users
        ]
        began = time.perf_counter()
        await ledger.commit(UsageBatch(records=records, spans=BATCH, requests=BATCH), now / 1e9)
        found.append(time.perf_counter() - began)

    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        task = asyncio.create_task(one())
        pending.add(task)
        task.add_done_callback(pending.discard)
        await asyncio.sleep(_PACE)
    await asyncio.gather(*pending)
    return found


async def prune(storage: SqliteStorage, directory: Path) -> None:
    """Let the oldest day go."""
    before, first = await asyncio.to_thread(counted, directory)
    # An hour less than what makes the oldest day old enough.
    retention = time.time() - (first // DAY + 1) * DAY - 3_600
    upkeep = TimedUpkeep(storage._writer, directory, Indexed(), SteadyClock(), retention)
    began = time.perf_counter()
    await upkeep.prune()
    took = time.perf_counter() - began
    after, _ = await asyncio.to_thread(counted, directory)
    print(f"a pass of pruning: {took:.0f} s, {before:,} -> {after:,} records with those that came meanwhile")
    print(f"  its steps in the writer, without the commit: {shown(upkeep.times)}")


def counted(directory: Path) -> tuple[int, int]:
    """(records, second of the oldest)."""
    with closing(sqlite3.connect(directory / LEDGER)) as connection:
        (records,) = connection.execute("SELECT count(*) FROM records").fetchone()
        return records, int.from_bytes(connection.execute("SELECT min(key) FROM records").fetchone()[0][:4], "big")


def shown(times: list[float]) -> str:
    """Median, 99th percentile and worst, in milliseconds."""
    in_order = sorted(times)
    middle, late = statistics.median(in_order), in_order[int(len(in_order) * 0.99)]
    return f"median {1000 * middle:.1f} ms, p99 {1000 * late:.1f} ms, worst {1000 * in_order[-1]:.1f} ms"


if __name__ == "__main__":
    main()
