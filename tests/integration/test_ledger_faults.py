"""The ledger on a disk that refuses: nothing half written, everybody told, and back to work by itself."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from billing import batch, record
from ledgers import Book, book

from otel_usageflow.errors import Unavailable
from otel_usageflow.extensions.sqlite_storage import writer
from otel_usageflow.extensions.sqlite_storage.file import open_for_writing

NOON = 1_700_000_000 - 1_700_000_000 % 60


async def _pragma(open_book: Book, text: str) -> None:
    """Run a pragma on the write connection, in its thread."""
    storage = open_book.storage
    await storage._writer.run(lambda connection: connection.execute(text).fetchall(), weight=0)


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """On a full disk usage is refused whole, reading changes nothing about that, and with room all is well again."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON)), NOON)
        await _pragma(open_book, "PRAGMA max_page_count = 1")  # SQLite takes the present size instead
        refused = batch(*(record(f"user-{n}", at=NOON) for n in range(2_000)))
        for _ in range(2):
            with pytest.raises(Unavailable, match="full"):
                await open_book.commit(refused, NOON)
            assert "full" in open_book.health.problems()["sqlite_storage"]
        assert open_book.standings() == {("acme", "collecting", None): (1, "1")}
        await _pragma(open_book, "PRAGMA max_page_count = 1000000")
        await open_book.commit(refused, NOON)
        assert not open_book.health.problems()
        assert sum(line.requests for line in open_book.usage()) == 2_001
        (event,) = await open_book.freeze(NOON + 10)
        assert event.value == "1"


async def test_a_ledger_that_is_locked_by_a_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody holds a lock with another tool usage is refused, and taken when the lock is gone."""

    def impatient(directory: Path) -> sqlite3.Connection:
        connection = open_for_writing(directory)
        connection.execute("PRAGMA busy_timeout = 20")
        return connection

    monkeypatch.setattr("otel_usageflow.extensions.sqlite_storage.open_for_writing", impatient)
    usage = batch(record(at=NOON))
    async with book(tmp_path) as open_book:
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            await open_book.commit(usage, NOON)
        assert open_book.health.problems()
        other.execute("ROLLBACK")
        other.close()
        assert (await open_book.ledger.commit(usage, NOON)).billed == 1
        assert not open_book.health.problems()


async def test_a_change_that_is_wrong_takes_no_other_with_it(tmp_path: Path) -> None:
    """A bug in one change fails that change; those of its group are committed, and names are learned anew."""
    async with book(tmp_path) as open_book:
        run = open_book.storage._writer.run
        usages = [batch(record(f"user-{n}", at=NOON)) for n in range(20)]
        changes = [open_book.ledger.commit(usage, NOON) for usage in usages]
        changes.insert(10, run(lambda connection: connection.execute("SELECT nonsense")))
        results = await asyncio.gather(*changes, return_exceptions=True)
        assert isinstance(results.pop(10), sqlite3.Error)
        assert all(getattr(result, "billed", None) == 1 for result in results)
        assert not open_book.health.problems()
        assert {user for user, *_ in open_book.standings()} == {f"user-{n}" for n in range(20)}


async def test_overload_refuses_usage_but_not_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too much waiting to be written, new usage is refused; Stripe's answers are written down all the same."""
    monkeypatch.setattr(writer, "MOST_WAITING", 10)
    async with book(tmp_path) as open_book:
        commits = [open_book.ledger.commit(batch(*(record(at=NOON) for _ in range(8))), NOON) for _ in range(6)]
        others = [open_book.ledger.unsettled(0, 1) for _ in range(6)]
        results = await asyncio.gather(*commits, *others, return_exceptions=True)
        refused = sum(isinstance(result, Unavailable) for result in results[:6])
        assert 0 < refused < 6
        assert results[6:] == [[]] * 6
        assert sum(line.requests for line in open_book.usage()) == 8 * (6 - refused)


async def test_numbers_of_a_transaction_that_was_rolled_back_are_not_used(tmp_path: Path) -> None:
    """After a refused commit of new users the next commit gives them numbers of its own."""
    async with book(tmp_path) as open_book:
        await open_book.commit(batch(record("old", at=NOON)), NOON)
        await _pragma(open_book, "PRAGMA max_page_count = 1")
        with pytest.raises(Unavailable):
            await open_book.commit(batch(*(record(f"new-{n}", at=NOON) for n in range(2_000))), NOON)
        await _pragma(open_book, "PRAGMA max_page_count = 1000000")
        await open_book.commit(batch(*(record(f"new-{n}", at=NOON) for n in range(10))), NOON)
        assert {user for user, *_ in open_book.standings()} == {"old", *(f"new-{n}" for n in range(10))}


_LIMITED = """
import asyncio, contextlib, resource, signal, sys
from pathlib import Path
from billing import batch, record
from ledgers import book
from otel_usageflow.errors import Unavailable

NOW = 1_700_000_000
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

async def main():
    taken = refused = 0
    async with book(Path(sys.argv[1])) as open_book:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, hard))
        for turn in range(40):
            usage = batch(*(record(f"u{n}", at=NOW, number=1 + turn * 1000 + n) for n in range(1_000)))
            try:
                taken += (await open_book.ledger.commit(usage, NOW)).billed
            except Unavailable:
                refused += 1
                assert open_book.health.problems()
        for number in range(10**6, 10**6 + 5_000):  # until not even the smallest fits
            try:
                taken += (await open_book.ledger.commit(batch(record("u0", at=NOW, number=number)), NOW)).billed
            except Unavailable:
                with contextlib.suppress(Unavailable):
                    await open_book.ledger.unsettled(0, 1)
                if open_book.health.problems():  # the proof that the disk works is smaller than any usage
                    break
        for _ in range(20):  # looking at a broken disk writes nothing, so it must not look mended by that
            with contextlib.suppress(Unavailable):
                await open_book.ledger.unsettled(0, 1)
        assert open_book.health.problems()
        assert sum(line.requests for line in open_book.usage()) == taken
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        last = batch(record("u0", at=NOW, number=10**9))
        taken += (await open_book.ledger.commit(last, NOW)).billed
        assert not open_book.health.problems()
    print(taken, refused)

asyncio.run(main())
"""


def test_io_errors_of_the_operating_system(tmp_path: Path) -> None:
    """When the system refuses to let files grow, what was acknowledged is there after a restart, and nothing else."""
    support = Path(__file__).parents[1] / "support"
    process = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)],
        env={"PYTHONPATH": str(support), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    taken, refused = map(int, process.stdout.split()[-2:])
    assert taken > 0
    assert refused > 0

    async def stored() -> int:
        async with book(tmp_path) as open_book:
            return sum(line.requests for line in open_book.usage())

    assert asyncio.run(stored()) == taken
