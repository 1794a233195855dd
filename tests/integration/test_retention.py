"""Retention: what is settled and old goes, what is not settled stays, and nothing is billed twice because of it."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from billing import batch, record
from days import counted_by_day, kept_by_day
from ledgers import METER, Book, book
from pruning import TestClock, problems, prune, pruned_to, upkeep

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage import SqliteStorageConfig
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.model.outcome import Accepted, Refused
from otel_usageflow.model.usage import Reason, UnflaggedSpan, UsageBatch, UsageRecord

START = 1_700_000_000 - 1_700_000_000 % DAY
TABLES = ("records", "windows", "meter_events", "quarantine", "stray_records", "server_spans", "trace_index")


def count(directory: Path, table: str, where: str = "1") -> int:
    """Rows of a table."""
    with closing(sqlite3.connect(directory / "ledger.db")) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])


async def _day(open_book: Book, day: int, *, refused: str = "") -> list[UsageRecord]:
    """A day of usage of acme, beta and a stranger, settled half a day after it has ended."""
    begin, now = START + day * DAY, START + (day + 1) * DAY
    usage = [record(user, at=begin + 4_000 * n, quantity=n) for n in range(21) for user in ("acme", "beta")]
    usage += [record("stranger", at=begin + 10_000), record("acme", at=begin + 70, quantity=Decimal("0.5"))]
    spans = [UnflaggedSpan(usage[0].trace_id, usage[0].span_id, b"", "shop", usage[0].ended_ns)]
    await open_book.commit(UsageBatch(usage, spans), now)
    stray = record("acme", at=begin + 80_000)._replace(at_ns=(begin + 79_999) * 10**9)
    kept = [record(None, at=begin + 5, reason=Reason.NO_USER), record(None, at=begin + 6, reason=Reason.NO_USER)]
    await open_book.commit(batch(stray, *kept), now)
    await open_book.commit(batch(kept[0]._replace(user="acme", reason=None)), now)
    while events := await open_book.freeze(now + 100):
        for event in events:
            await open_book.ledger.begin([event], now + DAY / 2)
            outcome = Refused(Reason.REJECTED, "no") if event.customer == refused else Accepted()
            await open_book.ledger.settle(event, outcome, now + DAY / 2)
    return [*usage, stray]


async def _days(open_book: Book, days: int) -> list[list[UsageRecord]]:
    await open_book.list_customers({"acme": "cus_1", "beta": "cus_2"})
    return [await _day(open_book, day, refused="cus_2" if day == 1 else "") for day in range(days)]


async def test_what_is_old_and_settled_goes(tmp_path: Path) -> None:
    """Days that are older than the retention go as a whole; their sums, and what is not settled, stay."""
    async with book(tmp_path) as open_book:
        await _days(open_book, 6)
        await open_book.storage.upkeep.index()
        before, kept = open_book.standings(), kept_by_day(tmp_path)
        assert await prune(open_book, START + 7 * DAY, retention=2.5 * DAY)
        assert open_book.standings() == before
        assert kept_by_day(tmp_path) == kept
        first = START // DAY + 3
        assert counted_by_day(tmp_path, first) == kept_by_day(tmp_path, first)
        assert problems(tmp_path) == []
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
            # Of the second day beta's usage was refused; of each day a stranger's is held.
            rows = connection.execute(
                "SELECT at_ns / 1000000000 / 86400, user, count(*) FROM records JOIN series USING (series_id) "
                "WHERE at_ns < ? GROUP BY 1, 2",
                (first * DAY * 10**9,),
            ).fetchall()
        of_day = {(day - START // DAY, user): requests for day, user, requests in rows}
        assert of_day == {(0, "stranger"): 1, (1, "stranger"): 1, (2, "stranger"): 1, (1, "beta"): 20}
        assert count(tmp_path, "quarantine", f"at_ns < {first * DAY * 10**9}") == 3
        assert count(tmp_path, "server_spans") == 3
        assert count(tmp_path, "stray_records") == 3


async def test_what_was_kept_goes_when_it_is_settled(tmp_path: Path) -> None:
    """A later pass finds what an earlier one had to leave, and the record of its own with its event."""
    async with book(tmp_path) as open_book:
        open_book.meters[METER] = Formula.COUNT
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(*(record(at=START + n / 2) for n in range(20))), START)
        events = await open_book.freeze(START + 60)
        later = record(at=START + 10 * DAY)
        for event in events[1:]:
            await open_book.ledger.begin([event], START + 61)
            await open_book.ledger.settle(event, Accepted(), START + 61)
        await open_book.commit(batch(later), START + 10 * DAY)
        assert await prune(open_book, START + 10 * DAY, retention=DAY)
        assert count(tmp_path, "records") == 21, "the windows of that minute have an event that is not settled"
        assert problems(tmp_path) == []
        await open_book.ledger.begin([events[0]], START + 62)
        await open_book.ledger.settle(events[0], Accepted(), START + 62)
        assert await prune(open_book, START + 10 * DAY, retention=DAY)
        assert (count(tmp_path, "records"), count(tmp_path, "meter_events"), count(tmp_path, "windows")) == (1, 0, 0)
        assert open_book.standings()["acme", "billed", None] == (20, "20")
        assert problems(tmp_path) == []


async def test_a_pruned_span_that_comes_again_is_not_billed(tmp_path: Path) -> None:
    """What the ledger would not recognise any more is too old, however short the retention is."""
    async with book(tmp_path) as open_book:
        days = await _days(open_book, 4)
        assert await prune(open_book, START + 5 * DAY, retention=DAY)
        assert count(tmp_path, "records", "quantity IS NOT NULL AND at_ns < " + str((START + DAY) * 10**9)) == 1
        before = open_book.standings()["acme", "billed", None]
        again = await open_book.ledger.commit(batch(*days[0]), START + 5 * DAY)
        assert again.billed == 0
        assert open_book.standings()["acme", "billed", None] == before
        assert (await open_book.ledger.commit(batch(*days[3]), START + 5 * DAY)).duplicates == len(days[3])


async def test_an_inner_span_that_was_pruned_leaves_its_window_right(tmp_path: Path) -> None:
    """What was taken out of a window that still waits is pruned before it: that is no contradiction."""
    async with book(tmp_path, window=1) as opened:
        child = record("acme", at=START)
        outer = child._replace(span_id=b"\x01" * 8)
        inner_span = UnflaggedSpan(child.trace_id, child.span_id, outer.span_id, "shop", child.ended_ns)
        outer_span = UnflaggedSpan(outer.trace_id, outer.span_id, b"", "shop", outer.ended_ns)
        await opened.commit(UsageBatch([child], [inner_span]), START)
        await opened.commit(UsageBatch([outer], [outer_span]), START)
        await opened.commit(batch(record("acme", at=START + 19 * DAY)), START + 19 * DAY)
        assert problems(tmp_path) == []
        assert await prune(opened, START + 20 * DAY, retention=DAY)
        assert count(tmp_path, "records") == 2
        assert problems(tmp_path) == []


async def test_a_clock_that_jumps_prunes_nothing_that_is_needed(tmp_path: Path) -> None:
    """40 days ahead and back: usage counts its age from the newest usage, and a running service sees the jump."""
    async with book(tmp_path) as open_book:
        days = await _days(open_book, 5)
        now = START + 5 * DAY
        clock = TestClock(now)
        background = upkeep(open_book, clock)
        clock.wall += 40 * DAY
        assert not await background.prune(), "the clock was set while the service ran"
        clock.wall -= 80 * DAY
        assert not await background.prune()
        for started_at in (now + 40 * DAY, now - 40 * DAY):
            await prune(open_book, started_at)
        assert count(tmp_path, "records") == sum(map(len, days)) + 5
        # Even usage that comes with the wrong time makes only what is settled go, and nothing billed again.
        await open_book.commit(batch(record("acme", at=now + 40 * DAY)), now + 40 * DAY)
        await prune(open_book, now + 40 * DAY)
        assert count(tmp_path, "records") == 6 + 20, "a stranger's, the refused, and the new one"
        before = open_book.standings()["acme", "billed", None]
        assert (await open_book.ledger.commit(batch(*days[4]), now)).billed == 0
        assert open_book.standings()["acme", "billed", None] == before
        assert problems(tmp_path) == []


async def test_the_sums_of_days_are_kept_longer(tmp_path: Path) -> None:
    """`totals` days of sums, then they go too."""
    async with book(tmp_path) as open_book:
        await _days(open_book, 6)
        assert await prune(open_book, START + 6 * DAY, retention=DAY, totals=3 * DAY)
    assert {day - START // DAY for day, _, _ in kept_by_day(tmp_path)} == {2, 3, 4, 5}


async def test_a_report_of_pruned_time_is_told_by_whole_days(tmp_path: Path) -> None:
    """Parts of days of which the requests are gone are not guessed."""
    async with book(tmp_path) as open_book:
        await _days(open_book, 5)
        with open_reader(tmp_path) as reader:
            whole = reader.usage(START, START + DAY)
        assert await prune(open_book, START + 5 * DAY, retention=2 * DAY)
        with open_reader(tmp_path) as reader:
            assert reader.answerable(START + 100, START + 50_000) == (START, START + DAY)
            assert reader.answerable(START + 3 * DAY + 5, None) == (START + 3 * DAY + 5, None)
            assert reader.usage(START + 100, START + 50_000) == whole


async def test_the_audit_log_tells_each_pass_once(tmp_path: Path) -> None:
    """What has gone, and up to where; a pass that finds nothing is not told."""
    async with book(tmp_path) as open_book:
        await _days(open_book, 4)
        events = count(tmp_path, "meter_events")
        for _ in range(2):
            assert await prune(open_book, START + 5 * DAY, retention=2 * DAY)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        rows = connection.execute("SELECT after FROM audit WHERE action = 'pruned'").fetchall()
    (told,) = [json.loads(row[0]) for row in rows]
    assert told["events"] == events - count(tmp_path, "meter_events")
    assert told["pruned_to"] == START + DAY
    assert told["records"] > 40


@pytest.mark.parametrize("damage", ["DELETE FROM ledger", "UPDATE ledger SET pruned_to = 1"])
async def test_a_recovered_ledger_knows_what_was_pruned(tmp_path: Path, damage: str) -> None:
    """What is gone would be billed a second time if it came once more and nobody knew that it is gone."""
    async with book(tmp_path) as open_book:
        await _days(open_book, 4)
        assert await prune(open_book, START + 5 * DAY, retention=2 * DAY)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        connection.execute(damage)
    assert problems(tmp_path)
    output = tmp_path / "recovered" / "ledger.db"
    output.parent.mkdir()
    assert main(["ledger", "recover", str(tmp_path / "ledger.db"), "--output", str(output)]) == 0
    assert pruned_to(output.parent) == START + DAY
    assert problems(output.parent) == []


async def test_the_file_gets_smaller(tmp_path: Path) -> None:
    """What was pruned is given back to the file system, but for a small part."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        for minute in range(100):
            usage = (record(at=START + 60 * minute + n / 10) for n in range(500))
            await open_book.commit(batch(*usage), START + 60 * minute + 60)
        while events := await open_book.freeze(START + DAY):
            for event in events:
                await open_book.ledger.begin([event], START + DAY)
                await open_book.ledger.settle(event, Accepted(), START + DAY)
        await open_book.commit(batch(record(at=START + 10 * DAY)), START + 10 * DAY)
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
            (before,) = connection.execute("PRAGMA page_count").fetchone()
            assert await prune(open_book, START + 10 * DAY, retention=DAY)
            (after,) = connection.execute("PRAGMA page_count").fetchone()
        assert count(tmp_path, "records") == 1
        assert before > 600
        assert after < before / 2
        assert problems(tmp_path) == []


_CHILD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from ledgers import book
from pruning import prune

async def main():
    async with book(Path(sys.argv[1])) as open_book:
        await prune(open_book, float(sys.argv[2]), retention=86400.0)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_killed_in_the_middle_of_a_pass(tmp_path: Path, number: int) -> None:
    """Before the commit of a portion or after it: the ledger holds, and the next pass does the rest."""
    async with book(tmp_path) as open_book:
        days = await _days(open_book, 4)
        before = open_book.standings()
    support = str(Path(__file__).parents[1] / "support")
    command = [sys.executable, "-c", _CHILD, str(tmp_path), str(START + 5 * DAY), support]
    environment = {**os.environ, "OTEL_USAGEFLOW_DIE_AT": f"prune: written#{number}"}
    process = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert problems(tmp_path) == []
    async with book(tmp_path) as open_book:
        assert open_book.standings() == before
        assert (await open_book.ledger.commit(batch(*days[0]), START + 5 * DAY)).billed == 0
        assert await prune(open_book, START + 5 * DAY, retention=DAY)
    assert problems(tmp_path) == []
    assert count(tmp_path, "pruning") == 0
    assert count(tmp_path, "windows", f"start < {START + DAY}") == 0


def test_how_long_can_be_written_in_days() -> None:
    """`35d` is what one writes; less than a day, and sums that go before usage, are mistakes."""
    assert SqliteStorageConfig().retention.days == 35
    assert SqliteStorageConfig.model_validate({"retention": "40d", "totals": "2400h"}).totals.days == 100
    with pytest.raises(ValueError, match="at least 1d"):
        SqliteStorageConfig.model_validate({"retention": "1h"})
    with pytest.raises(ValueError, match="at least as long"):
        SqliteStorageConfig.model_validate({"totals": "30d"})
