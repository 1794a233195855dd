"""The ledger on SQLite: what is taken once stays taken, and every amount ends where the report says."""

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest
from billing import batch, record
from ledgers import METER, book

from otel_usageflow.errors import LedgerInUse, SchemaTooNew, StorageCorrupt, StorageError
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.model.outcome import Accepted, Refused, Retry
from otel_usageflow.model.usage import Reason, Terms, UnflaggedSpan, UsageBatch

NOON = 1_700_000_000 - 1_700_000_000 % 60
DAY = 86_400


async def test_a_charge_is_taken_once(tmp_path: Path) -> None:
    """The same span is the same charge, in one batch, in another, and after a restart."""
    usage = record(at=NOON, quantity=5)
    async with book(tmp_path) as open_book:
        assert (await open_book.ledger.commit(batch(usage, usage), NOON)).billed == 1
        committed = await open_book.ledger.commit(batch(usage, record(at=NOON)), NOON)
        assert (committed.billed, committed.duplicates) == (1, 1)
    async with book(tmp_path) as open_book:
        assert (await open_book.ledger.commit(batch(usage), NOON)).billed == 0
        assert open_book.standings() == {("acme", "collecting", None): (2, "6")}


async def test_one_request_feeds_several_meters(tmp_path: Path) -> None:
    """The event name is part of the charge."""
    other = Terms("tokens", "tokens", "account_id")
    async with book(tmp_path) as open_book:
        committed = await open_book.ledger.commit(
            batch(record(at=NOON, number=77), record(at=NOON, number=77, terms=other)), NOON
        )
        assert committed.billed == 2


async def test_windows_never_cross_a_minute(tmp_path: Path) -> None:
    """Windows of one lane merge within a UTC minute, and another minute is another event."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        usage = [record(at=NOON + second) for second in (1, 11, 59, 60, 61)]
        await open_book.commit(batch(*usage), NOON + 61)
        first = await open_book.freeze(NOON + 120)
        second = await open_book.freeze(NOON + 120)
        assert [(e.value, e.timestamp) for e in first + second] == [("3", NOON + 59), ("2", NOON + 61)]


async def test_a_busy_lane_leaves_its_windows_open(tmp_path: Path) -> None:
    """While a lane waits its windows stay open, merge up to `max_window`, and nothing is lost."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(*(record(at=NOON + s) for s in (1, 11, 21, 31))), NOON + 40)
        assert await open_book.freeze(NOON + 50, busy=lambda lane: lane[2] == "cus_1") == []
        (event,) = await open_book.freeze(NOON + 50, max_window=20)
        assert event.value == "2"


async def test_a_late_record_becomes_an_event_of_its_own(tmp_path: Path) -> None:
    """A frozen event never changes: what comes late for its window is sent beside it."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON + 1, quantity=3)), NOON + 2)
        (first,) = await open_book.freeze(NOON + 10)
        await open_book.commit(batch(record(at=NOON + 2, quantity=4)), NOON + 11)
        (second,) = await open_book.freeze(NOON + 12)
        assert (first.value, second.value) == ("3", "4")
        assert first.identifier != second.identifier


async def test_a_window_of_zero_makes_no_event(tmp_path: Path) -> None:
    """Requests of quantity 0 are billed requests, and Stripe is told nothing."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON, quantity=0)), NOON)
        assert await open_book.freeze(NOON + 60) == []
        assert open_book.standings() == {("acme", "billed", None): (1, "0")}


async def test_what_is_too_old_is_kept_aside(tmp_path: Path) -> None:
    """A span that ended more than 35 days ago is quarantined, now or when its window is frozen."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        committed = await open_book.ledger.commit(batch(record(at=NOON - 36 * DAY)), NOON)
        assert committed.quarantined == {Reason.TOO_OLD: 1}
        await open_book.commit(batch(record(at=NOON, quantity=2)), NOON)
        assert await open_book.freeze(NOON + 36 * DAY) == []
        assert open_book.standings() == {("acme", "quarantined", "too_old"): (2, "3")}


async def test_no_user_is_quarantined_and_billed_after_the_policy_was_fixed(tmp_path: Path) -> None:
    """Sending the spans again under a better policy bills what was quarantined, once."""
    async with book(tmp_path) as open_book:
        await open_book.commit(batch(record(None, at=NOON, number=9, reason=Reason.NO_USER)), NOON)
        await open_book.commit(batch(record(None, at=NOON, number=9, reason=Reason.NO_USER)), NOON)
        assert open_book.standings() == {("", "quarantined", "no_user"): (1, "1")}
        await open_book.commit(batch(record("acme", at=NOON, number=9)), NOON)
        assert open_book.standings() == {("acme", "collecting", None): (1, "1")}
        await open_book.commit(batch(record(None, at=NOON, number=9, reason=Reason.NO_USER)), NOON)
        assert open_book.standings() == {("acme", "collecting", None): (1, "1")}


async def test_customers_come_and_go(tmp_path: Path) -> None:
    """Held usage is looked at again whenever the customers with its value change."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"other": "cus_0"})
        await open_book.commit(batch(record(at=NOON)), NOON)
        assert await open_book.freeze(NOON + 10) == []
        assert open_book.standings() == {("acme", "quarantined", "no_customer"): (1, "1")}
        twins = [CustomerChange(c, {"account_id": "acme"}) for c in ("cus_1", "cus_2")]
        await open_book.ledger.apply_customers("", ["account_id"], twins, 2)
        assert await open_book.freeze(NOON + 10) == []
        assert open_book.standings() == {("acme", "quarantined", "ambiguous_customer"): (1, "1")}
        await open_book.ledger.apply_customers("", ["account_id"], [CustomerChange("cus_1", None)], 3)
        (event,) = await open_book.freeze(NOON + 10)
        assert event.customer == "cus_2"


async def test_a_listing_forgets_who_is_gone(tmp_path: Path) -> None:
    """A customer that a later listing does not show is no customer any more."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1", "beta": "cus_2"}, generation=1)
        await open_book.list_customers({"beta": "cus_2"}, generation=2)
        await open_book.commit(batch(record("acme", at=NOON), record("beta", at=NOON)), NOON)
        (event,) = await open_book.freeze(NOON + 10)
        assert event.customer == "cus_2"


async def test_an_incomplete_directory_bills_nobody(tmp_path: Path) -> None:
    """Before the listing is complete another customer may have the same value: usage waits."""
    async with book(tmp_path) as open_book:
        open_book.fields = ()
        change = CustomerChange("cus_1", {"account_id": "acme"})
        await open_book.ledger.apply_customers("", ["account_id"], [change], 1)
        await open_book.commit(batch(record(at=NOON)), NOON)
        assert await open_book.freeze(NOON + 10) == []
        assert open_book.standings() == {("acme", "collecting", None): (1, "1")}


async def test_a_meter_event_survives_a_crash_in_the_middle_of_sending(tmp_path: Path) -> None:
    """What was begun and has no answer is there after a restart: unchanged, and known to be uncertain."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON)), NOON)
        (event,) = await open_book.freeze(NOON + 10)
        await open_book.ledger.begin([event], NOON + 11)
    async with book(tmp_path) as open_book:
        (again,) = await open_book.ledger.unsettled(0, 10)
        assert (again.identifier, again.value, again.timestamp) == (event.identifier, event.value, event.timestamp)
        assert (again.uncertain, again.attempts, again.first_attempt_at) == (True, 1, NOON + 11)
        await open_book.ledger.begin([again], NOON + 20)
        await open_book.ledger.settle(again, Accepted("req_1", duplicate=True), NOON + 21)
        assert await open_book.ledger.unsettled(0, 10) == []
        assert open_book.standings() == {("acme", "billed", None): (1, "1")}


async def test_a_definite_no_because_of_the_customer_puts_the_usage_back(tmp_path: Path) -> None:
    """Refused usage of a missing customer waits for one, and is sent under another identifier."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON, quantity=8)), NOON)
        (event,) = await open_book.freeze(NOON + 10)
        await open_book.ledger.begin([event], NOON + 10)
        await open_book.ledger.settle(event, Refused(Reason.NO_CUSTOMER, "No such customer"), NOON + 11)
        assert open_book.standings() == {("acme", "quarantined", "no_customer"): (1, "8")}
        await open_book.ledger.apply_customers("", ["account_id"], [CustomerChange("cus_1", None)], 2)
        change = CustomerChange("cus_2", {"account_id": "acme"})
        await open_book.ledger.apply_customers("", ["account_id"], [change], 2)
        (second,) = await open_book.freeze(NOON + 20)
        assert (second.customer, second.value) == ("cus_2", "8")
        assert second.identifier != event.identifier


async def test_a_refusal_after_an_uncertain_attempt_is_not_sent_again(tmp_path: Path) -> None:
    """If an earlier attempt may have been counted, a refusal does not make it safe to bill once more."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON)), NOON)
        (event,) = await open_book.freeze(NOON + 10)
        await open_book.ledger.begin([event], NOON + 10)
        await open_book.ledger.settle(event, Retry("reset", uncertain=True), NOON + 11)
        (event,) = await open_book.ledger.unsettled(0, 10)
        await open_book.ledger.begin([event], NOON + 12)
        await open_book.ledger.settle(event, Refused(Reason.NO_CUSTOMER, "No such customer"), NOON + 12)
        await open_book.ledger.apply_customers("", ["account_id"], [CustomerChange("cus_1", None)], 2)
        change = CustomerChange("cus_2", {"account_id": "acme"})
        await open_book.ledger.apply_customers("", ["account_id"], [change], 2)
        assert await open_book.freeze(NOON + 20) == []
        assert open_book.standings() == {("acme", "unknown", "no_customer"): (1, "1")}


@pytest.mark.parametrize("one_by_one", [True, False])
async def test_records_of_their_own(tmp_path: Path, one_by_one: bool) -> None:
    """For a meter that counts, and without windows, each record is one event, strays in time included."""
    async with book(tmp_path, window=1 if one_by_one else 10) as open_book:
        open_book.meters[METER] = Formula.SUM if one_by_one else Formula.COUNT
        await open_book.list_customers({"acme": "cus_1"})
        stray = record(at=NOON + 4000, quantity=5)._replace(at_ns=NOON * 10**9)
        await open_book.commit(batch(record(at=NOON, quantity=1), stray, record(at=NOON, quantity=0)), NOON)
        frozen = await open_book.freeze(NOON + 10, one_by_one=one_by_one)
        assert sorted(event.value for event in frozen) == ["1", "5"]
        await open_book.ledger.begin(frozen, NOON + 10)
        for event in frozen:
            await open_book.ledger.settle(event, Accepted(), NOON + 10)
        assert open_book.standings()["acme", "billed", None] == (2, "6")


async def test_a_record_of_its_own_is_refused_and_comes_back(tmp_path: Path) -> None:
    """One refused record waits again; the others of its second are not sent twice."""
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON, quantity=1), record(at=NOON, quantity=2)), NOON)
        first, second = await open_book.freeze(NOON + 1, one_by_one=True)
        await open_book.ledger.begin([first, second], NOON + 1)
        await open_book.ledger.settle(first, Accepted(), NOON + 1)
        await open_book.ledger.settle(second, Refused(Reason.NO_METER, "No active meter"), NOON + 1)
        await open_book.ledger.reopen_meter(*METER)
        (again,) = await open_book.freeze(NOON + 2, one_by_one=True)
        assert (again.value, again.identifier) == (second.value, f"{second.identifier}_r1")


async def test_decimals_are_summed_exactly(tmp_path: Path) -> None:
    """A thousand tenths are a hundred, not nearly a hundred."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        for _ in range(10):
            await open_book.commit(batch(*(record(at=NOON, quantity=Decimal("0.1")) for _ in range(100))), NOON)
        (event,) = await open_book.freeze(NOON + 10)
        assert event.value == "100"


def _nested(inner_first: bool) -> tuple[UsageBatch, UsageBatch]:
    trace = (5).to_bytes(16, "big")
    outer, inner = (1).to_bytes(8, "big"), (2).to_bytes(8, "big")
    spans = {
        name: UsageBatch(
            records=[record(at=NOON, quantity=quantity)._replace(trace_id=trace, span_id=span)],
            unflagged=[UnflaggedSpan(trace, span, parent, "shop", NOON * 10**9)],
        )
        for name, span, parent, quantity in (("outer", outer, b"", 1), ("inner", inner, outer, 5))
    }
    order = ("inner", "outer") if inner_first else ("outer", "inner")
    return spans[order[0]], spans[order[1]]


@pytest.mark.parametrize("inner_first", [True, False])
async def test_nested_server_spans_are_one_request(tmp_path: Path, inner_first: bool) -> None:
    """Without flags, the SERVER span whose parent is a SERVER span of its service counts once, in either order."""
    first, second = _nested(inner_first)
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        for one in (first, second, first, second):
            await open_book.commit(one, NOON)
        (event,) = await open_book.freeze(NOON + 10)
        assert event.value == "1"
        assert open_book.standings()["acme", "sending", None] == (1, "1")


async def test_a_nested_span_that_was_frozen_stands_for_the_request(tmp_path: Path) -> None:
    """If the inner span's charge can no longer be taken back, the outer one is not billed on top."""
    first, second = _nested(inner_first=True)
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(first, NOON)
        (event,) = await open_book.freeze(NOON + 10)
        await open_book.commit(second, NOON + 11)
        assert await open_book.freeze(NOON + 30) == []
        assert event.value == "5"


async def test_the_second_process_is_told_who_has_the_ledger(tmp_path: Path) -> None:
    """Two writers would bill twice, so the second does not start."""
    async with book(tmp_path):
        with pytest.raises(LedgerInUse, match="in use by another"):
            async with book(tmp_path):
                pass


async def test_a_newer_ledger_is_not_touched(tmp_path: Path) -> None:
    """A ledger of a newer version is refused with the way out."""
    async with book(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(SchemaTooNew, match="schema version 999"):
        async with book(tmp_path):
            pass


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be looked at" * 40])
async def test_a_damaged_ledger_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    """A file that cannot be read stays as it is, and the message says how to recover."""
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(StorageCorrupt, match="recover"):
        async with book(tmp_path):
            pass
    assert (tmp_path / "ledger.db").read_bytes() == content


def test_reading_before_the_first_run_says_so(tmp_path: Path) -> None:
    """A directory without a ledger is no crash."""
    with pytest.raises(StorageError, match="no ledger"), open_reader(tmp_path):
        pass
