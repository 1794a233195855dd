"""What the storage does by itself in the background: the index of traces, and pruning.

Everything is done in short steps through the writer, with a rest after each, so that usage is taken meanwhile as if
nothing happened. Whatever fails here is logged and tried again; it never keeps usage from being taken or sent.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import structlog

from otel_usageflow.errors import StorageError, Unavailable
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.extensions.sqlite_storage.reading.trace_index import SLICE, Indexed
from otel_usageflow.extensions.sqlite_storage.upkeep import prune, traces
from otel_usageflow.extensions.sqlite_storage.upkeep.prunable import Looking
from otel_usageflow.extensions.sqlite_storage.writer import Writer
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.retention import is_trusted, limits
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.crash_point import reached

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_FIRST_PAUSE = 15.0
"""Seconds after the start in which there is more important work."""
_PAUSE = 30.0
_OVER = 120
"""Seconds after the end of a slice until late spans are few enough for its index."""
_BYTES = 256 * 1024
"""Of index entries written in one step."""
_REST = 4
"""Times the length of a step that is rested after it: the background takes a fifth of the writer's time at most."""
_INCREMENTAL = 2
_PAGES = 256
"""Of the file that are given back in one step: a megabyte."""
_KEEP_FREE = 20
"""One part of this many of the file may stay free: it is used within days."""
_TELL = 30.0
"""Seconds between two lines about the progress of a long pass."""


def vacuum(connection: sqlite3.Connection) -> bool:
    """Give a part of what is free in the file back to the file system; False when little is left of it.

    A file that was made by the first version keeps its size, and uses what is free in it for what comes.
    """
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    if mode != _INCREMENTAL or free <= max(pages // _KEEP_FREE, _PAGES):
        return False
    connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
    return True


class Upkeep:
    """Does the storage's own work.

    Args:
        writer: writes.
        directory: where the ledger is, for reading.
        indexed: what commits compare with.
        clock: unix seconds; it also knows whether it was set.
        retention: seconds for which usage is kept.
        totals: seconds for which its sums by day are kept.
        given_up: counts, for each book, spans with an amount of traces that were given up.
    """

    def __init__(
        self,
        writer: Writer,
        directory: Path,
        indexed: Indexed,
        clock: SteadyClock,
        retention: float = 35 * DAY,
        totals: float = 400 * DAY,
        given_up: Counter[str] | None = None,
    ) -> None:
        self._writer = writer
        self._directory = directory
        self._indexed = indexed
        self._clock = clock
        self._retention = retention
        self._totals = totals
        self._given_up = Counter[str]() if given_up is None else given_up
        self._pruned_to = 0
        self._distrusted = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make commits look where they must, and begin to work in the background."""
        last = await asyncio.to_thread(self._read, trace_index.last_slice)
        if last is not None:
            self._indexed.reaches(last)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End that. What was half done is done again."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def index(self) -> int:
        """Make the index of all slices that are over and have none; return how many were made."""
        made, number, told = 0, 0, time.monotonic()
        before = int(self._clock() - _OVER) // SLICE
        while (following := await asyncio.to_thread(self._next, number, before)) is not None:
            made += await self._index(following)
            number = following + 1
            if time.monotonic() - told > _TELL:
                told = time.monotonic()
                _log.info("trace_index_progress", made=made, slices_left_at_most=before - number)
        if made > 1:
            _log.info("trace_index_made", slices=made)
        return made

    async def prune(self) -> bool:
        """Remove what is settled and too old; False if there is nothing to do since the last pass of this process."""
        if not is_trusted(self._clock.set_by):
            if not self._distrusted:
                _log.warning("ledger_not_pruned", why="the clock was set; start anew to trust it")
            self._distrusted = True
            return False
        newest = await asyncio.to_thread(self._read, prune.newest_usage)
        found = limits(self._clock(), newest, self._retention, self._totals)
        if found is None or found.before <= self._pruned_to:
            return False
        await self._step(lambda c: prune.begin(c, found))
        portions = Looking(lambda: open_for_reading(self._directory), found).portions()
        while (portion := await asyncio.to_thread(next, portions, None)) is not None:
            if portion:
                await self._step(lambda c, part=portion: prune.remove(c, part))  # type: ignore[misc]
        for bucket in range(256):
            while await self._step(lambda c, place=bucket: prune.sweep(c, found, place)):  # type: ignore[misc]
                pass
        while await self._step(lambda c: prune.forget_days(c, found)):
            pass
        counts = await self._write(lambda c: prune.finish(c, self._clock()))
        while await self._step(vacuum):
            pass
        self._pruned_to = found.before
        if counts:
            _log.info("ledger_pruned", before=found.before, **counts)
        return True

    async def give_up_traces(self) -> int:
        """Remove the spans of traces of which no request came; return how many traces that were."""
        if not is_trusted(self._clock.set_by):
            return 0
        found = 0
        while step := await self._step(lambda c: traces.give_up(c, self._clock(), self._given_up)):
            found += step
        return found

    async def _index(self, number: int) -> bool:
        await self._write(lambda c: self._claim(c, number))
        made = await asyncio.to_thread(self._read, lambda c: trace_index.read(c, number))
        step: list[tuple[int, bytes]] = []
        for last, entries in made.buckets.items():
            step.append((last, entries))
            if sum(len(entries) for _, entries in step) > _BYTES:
                await self._step(lambda c, part=tuple(step): trace_index.write(c, number, part))  # type: ignore[misc]
                step.clear()

        def finish(connection: sqlite3.Connection) -> bool:
            trace_index.write(connection, number, step)
            done = trace_index.finish(connection, number, made)
            reached("index: written")
            return done

        return await self._step(finish)

    def _claim(self, connection: sqlite3.Connection, number: int) -> None:
        self._indexed.reaches(number)
        trace_index.claim(connection, number)

    def _next(self, after: int, before: int) -> int | None:
        with closing(open_for_reading(self._directory)) as connection:
            indexed = trace_index.indexed_slices(connection)
            return next(trace_index.missing(connection, indexed, after, before), None)

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        with closing(open_for_reading(self._directory)) as connection:
            connection.execute("BEGIN")
            return read(connection)

    async def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        return await self._writer.run(change, weight=0)

    async def _step(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """One change, and a rest."""
        began = time.monotonic()
        result = await self._write(change)
        await asyncio.sleep(_REST * (time.monotonic() - began))
        return result

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            pause = _PAUSE
            try:
                await self.give_up_traces()
                await self.prune()
                await self.index()
            except (Unavailable, StorageError, sqlite3.Error) as error:
                _log.warning("ledger_upkeep_waits", error=str(error))
            except Exception:  # noqa: BLE001  (usage is taken and sent all the same)
                _log.exception("ledger_upkeep_failed")
