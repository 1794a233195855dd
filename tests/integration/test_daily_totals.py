"""Billed usage by day: kept with every step, rebuilt from an older ledger, and exact."""

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from billing import batch, record
from days import counted_by_day, kept_by_day
from ledgers import METER, Book, book
from old_ledgers import as_version_1

from otel_usageflow.extensions.sqlite_storage import exact
from otel_usageflow.extensions.sqlite_storage.file import open_for_commands, transaction
from otel_usageflow.extensions.sqlite_storage.flow import event_steps
from otel_usageflow.extensions.sqlite_storage.migration import migrate
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.states import EventStep
from otel_usageflow.model.outcome import Accepted, Refused
from otel_usageflow.model.usage import Reason

NOON = 1_700_000_000 - 1_700_000_000 % 86_400 + 43_200


async def _accept_all(open_book: Book, now: float) -> None:
    for event in await open_book.ledger.unsettled(0, 100):
        await open_book.ledger.begin([event], now)
        await open_book.ledger.settle(event, Accepted(), now)


async def _various(open_book: Book) -> None:
    """Sums, a record of its own, a zero, a decimal with too many digits for one value, over two days."""
    await open_book.list_customers({"acme": "cus_1", "beta": "cus_2"})
    usage = [record(user, at=NOON + s, quantity=4) for s in (0, 11, 86_400) for user in ("acme", "beta")]
    usage += [record("beta", at=NOON, quantity=Decimal("123456789.12345678901"))]
    usage += [record("acme", at=NOON + 120, quantity=0), record("acme", at=NOON + 180, quantity=2**62)]
    await open_book.commit(batch(*usage), NOON + 86_400)
    for minute in range(4):
        await open_book.freeze(NOON + 86_460 + minute)
    await _accept_all(open_book, NOON + 86_500)
    open_book.meters[METER] = Formula.COUNT
    await open_book.commit(batch(record("acme", at=NOON + 300), record("acme", at=NOON + 300)), NOON + 86_500)
    await open_book.freeze(NOON + 86_520)
    await _accept_all(open_book, NOON + 86_530)


async def test_accepted_usage_is_summed_by_day(tmp_path: Path) -> None:
    """What is billed stands under its UTC day; what is not, nowhere."""
    async with book(tmp_path) as open_book:
        await _various(open_book)
        await open_book.commit(batch(record("acme", at=NOON + 400)), NOON + 86_530)
    kept = kept_by_day(tmp_path)
    assert kept == counted_by_day(tmp_path)
    day = NOON // 86_400
    by_customer = {(d - day, who): value for (d, _, who), value in kept.items()}
    assert by_customer[0, "cus_1"] == (5, Decimal(2**62 + 10))
    assert by_customer[0, "cus_2"] == (3, Decimal("123456797.12345678901"))
    assert by_customer[0, ""] == (1, Decimal(0))
    assert by_customer[1, "cus_1"] == (1, Decimal(4))


@pytest.mark.parametrize("what", [EventStep.REJECT, EventStep.CANCEL])
async def test_what_leaves_accepted_is_taken_off_again(tmp_path: Path, what: EventStep) -> None:
    """A late refusal and a cancellation take exactly what the event had added, and a resend adds it once more."""
    async with book(tmp_path) as open_book:
        await _various(open_book)
        before = kept_by_day(tmp_path)
        with closing(open_for_commands(tmp_path)) as connection:
            for (event_id,) in connection.execute("SELECT event_id FROM meter_events").fetchall():
                with transaction(connection):
                    event_steps.take(connection, event_id, what)
                assert kept_by_day(tmp_path) == counted_by_day(tmp_path)
            assert {who for _, _, who in kept_by_day(tmp_path)} == {""}
            if what is EventStep.REJECT:
                for (event_id,) in connection.execute("SELECT event_id FROM meter_events").fetchall():
                    with transaction(connection):
                        event_steps.resend(connection, event_id)
                await _accept_all(open_book, NOON + 86_600)
                assert kept_by_day(tmp_path) == before


async def test_one_refused_part_unbills_the_whole_amount(tmp_path: Path) -> None:
    """An amount that was told in several events is billed while all of them are."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON, quantity=Decimal("1.00000000000000001"))), NOON)
        first, second = await open_book.freeze(NOON + 10)
        await open_book.ledger.begin([first, second], NOON + 11)
        await open_book.ledger.settle(first, Accepted(), NOON + 11)
        assert kept_by_day(tmp_path) == {}
        await open_book.ledger.settle(second, Refused(Reason.REJECTED, "no"), NOON + 11)
        assert kept_by_day(tmp_path) == counted_by_day(tmp_path) == {}


async def test_an_older_ledger_gets_its_sums(tmp_path: Path) -> None:
    """The migration counts what was billed before there were sums, in every way of freezing."""
    async with book(tmp_path) as open_book:
        await _various(open_book)
    kept = kept_by_day(tmp_path)
    as_version_1(tmp_path / "ledger.db")
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as connection:
        exact.register(connection)
        migrate(connection, "unused")
    assert kept_by_day(tmp_path) == kept == counted_by_day(tmp_path)
