"""Backups: one moment, made while the ledger is written, and restored without billing anything twice."""

import asyncio
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from billing import Billing, batch, billing, record, total
from full_ledger import NOON, fill
from ledgers import book
from looking_back import HOUR, RHYTHM, clock_of, states

from otel_usageflow.errors import StorageError, UsageError
from otel_usageflow.extensions.sqlite_storage.proof import backup
from otel_usageflow.extensions.sqlite_storage.upkeep.maintenance import back_up, verify_ledger
from otel_usageflow.testing.stripe import Fault, StripeDouble

EVENTS = "/v1/billing/meter_events"


def quiet(*_: object) -> None:
    """No progress."""


async def test_one_moment_while_the_service_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is committed meanwhile, a backup ends, holds what was there when it began, and is whole."""
    monkeypatch.setattr(backup, "_PAGES", 5)
    copy = tmp_path / "copies" / "ledger.db"
    copy.parent.mkdir()
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        for _ in range(5):
            await open_book.commit(batch(*(record(at=NOON + n) for n in range(500))), NOON)
        done = asyncio.create_task(asyncio.to_thread(back_up, tmp_path, copy, quiet))
        commits, longest = 0, 0.0
        while not done.done() or not commits:
            began = time.monotonic()
            await open_book.commit(batch(record(at=NOON + commits)), NOON)
            longest = max(longest, time.monotonic() - began)
            commits += 1
        made = await done
        assert longest < 2
    assert made.size == copy.stat().st_size
    assert copy.stat().st_mode & 0o777 == 0o600
    result = verify_ledger(copy, made.head, quiet)
    assert result.ok, result.findings
    assert 2_500 <= result.looked_at["records"] < 2_500 + commits + 1
    assert [path.name for path in copy.parent.iterdir()] == ["ledger.db"]


async def test_the_copy_says_that_it_is_one(tmp_path: Path) -> None:
    """In the copy what could be sent counts as perhaps sent, and the audit log has one entry more."""
    await fill(tmp_path)
    made = back_up(tmp_path, tmp_path / "copy.db", quiet)
    assert made.uncertain_events > 0
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("SELECT count(*) FROM meter_events WHERE state = 0").fetchone() == (0,)
        assert connection.execute("SELECT action FROM audit ORDER BY entry DESC LIMIT 1").fetchone() == ("copied",)
    result = verify_ledger(tmp_path / "copy.db", made.head, quiet)
    assert result.ok, result.findings
    assert result.head is not None
    assert result.head.entry == made.head.entry + 1


async def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A file that is there stays."""
    await fill(tmp_path)
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        back_up(tmp_path, tmp_path / "copy.db", quiet)
    assert (tmp_path / "copy.db").read_text() == "mine"
    with pytest.raises(UsageError, match="no folder"):
        back_up(tmp_path, tmp_path / "nowhere" / "copy.db", quiet)


async def test_a_disk_without_room_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how much is needed, and leaves nothing behind."""
    await fill(tmp_path)
    (tmp_path / "copies").mkdir()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1024))
    with pytest.raises(StorageError, match="make room"):
        back_up(tmp_path, tmp_path / "copies" / "copy.db", quiet)
    assert list((tmp_path / "copies").iterdir()) == []


async def _bill(stripe: StripeDouble, running: Billing, quantity: int, events: int) -> None:
    await running.bill(record(quantity=quantity, at=stripe.clock.now()))
    await stripe.wait_until(lambda: len(stripe.accepted) == events)


def restore(copy: Path, directory: Path) -> None:
    """The disk is lost; the backup is put into a new directory."""
    directory.mkdir()
    shutil.copy(copy, directory / "ledger.db")


async def test_the_restore_drill(tmp_path: Path) -> None:
    """Backup, more traffic, disk lost, restore: nothing that was in the backup is billed twice, or lost."""
    first, second, copy = tmp_path / "first", tmp_path / "second", tmp_path / "copy.db"
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        clock = clock_of(stripe)
        async with billing(first, stripe, clock=clock, rhythm=RHYTHM) as running:
            await _bill(stripe, running, 1, events=1)
            rule = stripe.fault(EVENTS, Fault.UNAVAILABLE, times=None)
            await running.bill(record(quantity=10, at=stripe.clock.now()))
            await stripe.wait_until(lambda: rule.fired > 0)
            await asyncio.to_thread(back_up, first, copy, quiet)
            stripe.clear_faults()
            await stripe.wait_until(lambda: len(stripe.accepted) == 2)  # sent after the backup
            await _bill(stripe, running, 100, events=3)  # never in the backup
        shutil.rmtree(first)
        restore(copy, second)
        async with billing(second, stripe, clock=clock, rhythm=RHYTHM) as running:
            await stripe.wait_until(lambda: states(second) == ["ACCEPTED", "ACCEPTED"])
            assert total(stripe, customer) == 111  # the 10 was sent again, and Stripe knew its identifier
            await _bill(stripe, running, 1_000, events=4)
        assert total(stripe, customer) == 1_111
        assert stripe.violations == []
    assert verify_ledger(second, None, quiet).ok


@pytest.mark.parametrize("sent_since", [True, False])
async def test_usage_that_was_still_collecting_is_asked_about(tmp_path: Path, sent_since: bool) -> None:
    """What had no meter event yet may have got one since, under another identifier: the summaries decide."""
    first, second, copy = tmp_path / "first", tmp_path / "second", tmp_path / "copy.db"
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        clock = clock_of(stripe)
        async with billing(first, stripe, clock=clock, rhythm=RHYTHM) as running:
            await _bill(stripe, running, 1, events=1)
            at = stripe.clock.now() + 60
            await running.bill(record(quantity=10, at=at))  # its window has not ended
            await asyncio.to_thread(back_up, first, copy, quiet)
            if sent_since:
                stripe.clock.advance(70)
                await stripe.wait_until(lambda: len(stripe.accepted) == 2)
        restore(copy, second)
        async with billing(second, stripe, clock=clock, rhythm=RHYTHM):
            stripe.clock.advance(100)
            await stripe.wait_until(lambda: states(second) == ["ACCEPTED", "UNKNOWN"])
            stripe.clock.advance(2 * HOUR)
            await stripe.wait_until(lambda: states(second) == ["ACCEPTED", "ACCEPTED"])
        assert total(stripe, customer) == 11
        assert len(stripe.accepted) == 2


async def test_a_backup_of_long_ago_sends_nothing_blindly(tmp_path: Path) -> None:
    """More than a day after the backup Stripe may have forgotten identifiers: events become unknown, not sent."""
    first, second, copy = tmp_path / "first", tmp_path / "second", tmp_path / "copy.db"
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        clock = clock_of(stripe)
        async with billing(first, stripe, clock=clock, rhythm=RHYTHM) as running:
            rule = stripe.fault(EVENTS, Fault.UNAVAILABLE, times=None)
            await running.bill(record(quantity=10, at=stripe.clock.now()))
            await stripe.wait_until(lambda: rule.fired > 0)
            await asyncio.to_thread(back_up, first, copy, quiet)
            stripe.clear_faults()
            await stripe.wait_until(lambda: len(stripe.accepted) == 1)
        stripe.clock.advance(30 * HOUR)
        restore(copy, second)
        async with billing(second, stripe, clock=clock, rhythm=RHYTHM):
            await stripe.wait_until(lambda: states(second) == ["UNKNOWN"] or total(stripe, customer) != 10)
            stripe.clock.advance(2 * HOUR)
            await stripe.wait_until(lambda: states(second) == ["ACCEPTED"])
        assert total(stripe, customer) == 10


@pytest.mark.parametrize("sent_since", [True, False])
async def test_records_that_are_sent_one_by_one_are_sent_again(tmp_path: Path, sent_since: bool) -> None:
    """Their identifiers are the same in the copy, so Stripe recognises what it has."""
    first, second, copy = tmp_path / "first", tmp_path / "second", tmp_path / "copy.db"
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        clock, one_by_one = clock_of(stripe), {"window": "0s"}
        async with billing(first, stripe, clock=clock, rhythm=RHYTHM, aggregation=one_by_one) as running:
            await _bill(stripe, running, 1, events=1)
            await running.bill(*(record(quantity=10, at=stripe.clock.now() + 30) for _ in range(3)))
            await asyncio.to_thread(back_up, first, copy, quiet)
            stripe.clock.advance(40)
            if sent_since:
                await stripe.wait_until(lambda: len(stripe.accepted) == 4)
        restore(copy, second)
        async with billing(second, stripe, clock=clock, rhythm=RHYTHM, aggregation=one_by_one):
            await stripe.wait_until(lambda: states(second) == ["ACCEPTED"] * 4)
        assert total(stripe, customer) == 31
