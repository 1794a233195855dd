"""The one thread that writes: everybody's changes, grouped into few transactions, each on the disk before it is
reported as done.

Invariants:
1. Only this thread has a write connection, so changes never wait for a lock of our own.
2. A change is answered only after the COMMIT that holds it, and COMMIT means fsync (`synchronous=FULL`).
3. Changes that arrive while a commit is under way share the next one. One caller pays one fsync; a thousand
   callers pay one fsync together.
4. A change that fails is rolled back alone: the group is run again without sharing, so that a bug in one
   change never takes another with it.
5. When the disk is full or broken, every change is refused with `Unavailable`, nothing is half written, and the
   next change tries again by itself. Only a transaction that wrote something proves that the disk works again.
6. When SQLite finds the file damaged, nothing is written any more until the next start, which looks at the file
   before it trusts it: a change that happens to touch healthy pages only would prove nothing.
"""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import structlog

from otel_usageflow.errors import StorageError, Unavailable
from otel_usageflow.extensions.sqlite_storage.damage import damaged, is_damage, of_connection

T = TypeVar("T")
Item = TypeVar("Item")
Change = Callable[[sqlite3.Connection], T]
CommonChange = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[T]]
"""One that does the same for several callers at once, who each hand in an item and get a result."""

_log = structlog.get_logger(__name__)

MOST_WAITING = 50_000
"""Weight (about rows) that may wait for the writer before callers are asked to come back later."""
_GROUP = 20_000
"""Weight after which a group is committed even though more is waiting."""


class _Job(NamedTuple):
    change: CommonChange[Any, Any]
    item: Any
    weight: int
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Writer:
    """Runs changes in order, in one thread.

    Args:
        connect: opens the write connection, in the writer's thread.
        report: called with a problem, or None when writing works again.
        rolled_back: called after a rollback, in the writer's thread, so that caches of what the transaction
            wrote can be dropped.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        report: Callable[[str | None], None],
        rolled_back: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._report = report
        self._rolled_back = rolled_back
        self._jobs: deque[_Job] = deque()
        self._weight = 0
        self._awake = threading.Condition()
        self._stopping = False
        self._broken = False
        self._damage: str | None = None
        self._started: asyncio.Future[None] | None = None
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Open the connection.

        Raises:
            StorageError, sqlite3.Error: it cannot be opened.
        """
        loop = asyncio.get_running_loop()
        self._started = loop.create_future()
        self._thread = threading.Thread(
            target=self._run, args=(loop, self._started), name="ledger-writer", daemon=True
        )
        self._thread.start()
        await self._started

    async def stop(self) -> None:
        """Finish what was handed in, and close the connection."""
        with self._awake:
            self._stopping = True
            self._awake.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def run(self, change: Change[T], weight: int = 1) -> T:
        """Run a change; return its result once it is durable.

        A change of weight 0 is never refused because too much is waiting: there are few, and they make room.

        Raises:
            Unavailable: it was not written, because too much is waiting, or because the disk refuses.
        """
        return await self.run_together(_alone, change, weight)

    async def run_together(self, change: CommonChange[Item, T], item: Item, weight: int) -> T:
        """The same for a change that is made once for all items of its callers that wait one behind the other.

        If that fails, it is made again for each item alone.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._awake:
            if self._stopping:
                raise Unavailable("the ledger is closing")
            if weight and self._weight and self._weight + weight > MOST_WAITING:
                raise Unavailable("the ledger cannot write as fast as usage comes in")
            self._jobs.append(_Job(change, item, weight, future, loop))
            self._weight += weight
            if len(self._jobs) == 1:  # else the thread is on its way already
                self._awake.notify()
        return await future

    def _run(self, loop: asyncio.AbstractEventLoop, started: "asyncio.Future[None]") -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001  (handed to the caller of start)
            loop.call_soon_threadsafe(started.set_exception, error)
            return
        loop.call_soon_threadsafe(started.set_result, None)
        try:
            while group := self._next_group():
                self._commit(connection, group)
        finally:
            self._refuse_the_rest()
            connection.close()

    def _refuse_the_rest(self) -> None:
        """Nobody may wait for a thread that is gone. After a clean stop nothing is left; after a crash there is."""
        with self._awake:
            self._stopping = True
            left, self._jobs = list(self._jobs), deque()
        _answer([(job, None, Unavailable("the ledger is closed")) for job in left])

    def _next_group(self) -> list[_Job]:
        with self._awake:
            while not self._jobs and not self._stopping:
                self._awake.wait()
            group: list[_Job] = []
            weight = 0
            while self._jobs and weight < _GROUP:
                job = self._jobs.popleft()
                group.append(job)
                weight += job.weight
            self._weight -= weight
            return group

    def _commit(self, connection: sqlite3.Connection, group: list[_Job]) -> None:
        if (damage := self._damage) is not None:
            _answer([(job, None, Unavailable(damage, retry_after=60)) for job in group])
            return
        try:
            results = _transaction(connection, group, prove=self._broken)
        except Exception as error:  # noqa: BLE001  (every error is given to those who wait)
            self._rolled_back()
            if len(group) > 1 and not _is_disk(error) and not is_damage(error):
                for job in group:
                    self._commit(connection, [job])
                return
            self._failed(connection, group, error)
            return
        if self._broken:
            self._broken = False
            self._report(None)
        _answer([(job, result, None) for job, result in zip(group, results, strict=True)])

    def _failed(self, connection: sqlite3.Connection, group: list[_Job], error: Exception) -> None:
        refusal = error
        if is_damage(error):
            self._damage = str(damaged(of_connection(connection), str(error)))
            _log.critical("ledger_damaged", error=self._damage)
            self._report(self._damage)
            refusal = Unavailable(self._damage, retry_after=60)
        elif _is_disk(error):
            problem = f"the ledger cannot be written: {error}"
            if not self._broken:
                self._broken = True
                _log.error("ledger_cannot_write", error=str(error))
                self._report(problem)
            refusal = Unavailable(problem, retry_after=5)
        elif not isinstance(error, StorageError | Unavailable):
            _log.error("ledger_change_failed", exc_info=error)
        _answer([(job, None, refusal) for job in group])


def _transaction(connection: sqlite3.Connection, group: list[_Job], *, prove: bool) -> list[Any]:
    if connection.in_transaction:  # a broken disk can refuse even the rollback
        connection.execute("ROLLBACK")
    connection.execute("BEGIN IMMEDIATE")
    try:
        results: list[Any] = []
        for change, jobs in groupby(group, lambda job: job.change):
            results += change(connection, [job.item for job in jobs])
        if prove:
            connection.execute("UPDATE ledger SET seq = seq + 1")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results


def _is_disk(error: Exception) -> bool:
    """Whether the storage refuses, as opposed to a change that is wrong."""
    return isinstance(error, sqlite3.OperationalError) and not str(error).startswith(("no such", "near "))


def _alone(connection: sqlite3.Connection, changes: Sequence[Change[T]]) -> list[T]:
    return [change(connection) for change in changes]


def _answer(told: Sequence[tuple[_Job, Any, Exception | None]]) -> None:
    """Tell all callers of a group at once: each call into the event loop's thread costs more than all the rest."""

    def answer(told: Sequence[tuple[_Job, Any, Exception | None]]) -> None:
        for job, result, error in told:
            if job.future.done():  # the caller gave up; what was committed stays committed
                continue
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(error)

    for loop in {job.loop for job, _, _ in told}:
        try:
            loop.call_soon_threadsafe(answer, [one for one in told if one[0].loop is loop])
        except RuntimeError:  # the loop is gone: nobody waits any more
            continue
