"""Windows and records in unusual orders: changed lengths, refusals of single records, waiting lanes, many series."""

from pathlib import Path

import pytest
from billing import batch, record
from ledgers import METER, Book, book

from otel_usageflow.extensions.sqlite_storage.flow import windows
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Outcome, Refused, Retry
from otel_usageflow.model.usage import Reason, UnflaggedSpan, UsageBatch

NOON = 1_700_000_000 - 1_700_000_000 % 60
NO_METER = Refused(Reason.NO_METER, "No active meter")


async def _answer(open_book: Book, event: MeterEvent, outcome: Outcome) -> None:
    await open_book.ledger.begin([event], NOON + 20)
    await open_book.ledger.settle(event, outcome, NOON + 20)


async def test_a_changed_window_length_does_not_mix_records(tmp_path: Path) -> None:
    """10s, 0s and 10s again with usage open all the while: every record is billed once, by whatever way."""
    for length, quantity in ((10, 1), (1, 20), (10, 300)):
        async with book(tmp_path, window=length) as open_book:
            await open_book.list_customers({"acme": "cus_1"})
            await open_book.commit(batch(record(at=NOON + 3, quantity=quantity)), NOON + 4)
    values: list[int] = []
    for length in (10, 1, 10, 1, 10):
        async with book(tmp_path, window=length) as open_book:
            for event in await open_book.freeze(NOON + 60, max_window=length, one_by_one=length == 1):
                values.append(int(event.value))
                await _answer(open_book, event, Accepted())
    assert sum(values) == 321
    async with book(tmp_path) as open_book:
        assert open_book.standings() == {("acme", "billed", None): (3, "321")}


async def test_a_refused_record_does_not_take_its_neighbours_along(tmp_path: Path) -> None:
    """Of a second's records one is billed, one came back, one counts as nothing: the report has each once."""
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(*(record(at=NOON, quantity=q) for q in (4, 7, 0))), NOON)
        events = await open_book.freeze(NOON + 1, one_by_one=True)
        by_value = {event.value: event for event in events}
        await _answer(open_book, by_value["4"], Accepted())
        await _answer(open_book, by_value["7"], NO_METER)
        assert open_book.standings() == {
            ("acme", "billed", None): (1, "4"),
            ("acme", "quarantined", "no_meter"): (2, "7"),
        }
        await open_book.ledger.reopen_meter(*METER)
        (again,) = await open_book.freeze(NOON + 2)  # meanwhile windows are summed: only what came back is in it
        assert again.value == "7"
        await _answer(open_book, again, Accepted())
        assert open_book.standings() == {("acme", "billed", None): (3, "11")}


async def test_a_neighbour_that_may_have_been_counted_is_not_sent_again(tmp_path: Path) -> None:
    """When a refused record goes back to waiting, one that was refused after an unknown outcome does not."""
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON, quantity=4), record(at=NOON, quantity=7)), NOON)
        first, second = await open_book.freeze(NOON + 1, one_by_one=True)
        await _answer(open_book, first, Retry("reset", uncertain=True))
        (first, _) = await open_book.ledger.unsettled(0, 10)
        await _answer(open_book, first, NO_METER)
        await _answer(open_book, second, NO_METER)
        await open_book.ledger.reopen_meter(*METER)
        (again,) = await open_book.freeze(NOON + 2, one_by_one=True)
        assert again.value == second.value


async def test_a_counted_inner_span_is_not_taken_back_because_a_neighbour_was_refused(tmp_path: Path) -> None:
    """A record that Stripe has stays billed although its window came back, so its outer span is not billed too."""
    trace, inner, outer = b"\1" * 16, b"\2" * 8, b"\3" * 8
    child = record(at=NOON, quantity=5)._replace(trace_id=trace, span_id=inner)
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        spans = [UnflaggedSpan(trace, inner, outer, "shop", NOON * 10**9)]
        await open_book.commit(UsageBatch([child, record(at=NOON, quantity=7)], spans), NOON)
        by_value = {event.value: event for event in await open_book.freeze(NOON + 1, one_by_one=True)}
        await _answer(open_book, by_value["5"], Accepted())
        await _answer(open_book, by_value["7"], NO_METER)
        spans = [UnflaggedSpan(trace, outer, b"", "shop", NOON * 10**9)]
        await open_book.commit(UsageBatch([child._replace(span_id=outer, quantity=1)], spans), NOON + 2)
        assert open_book.standings() == {
            ("acme", "billed", None): (1, "5"),
            ("acme", "quarantined", "no_meter"): (1, "7"),
        }


@pytest.mark.parametrize("one_by_one", [True, False])
async def test_the_last_value_can_be_nothing(tmp_path: Path, one_by_one: bool) -> None:
    """For a meter that keeps the last value, 0 is a value."""
    async with book(tmp_path, window=1 if one_by_one else 10) as open_book:
        open_book.meters[METER] = Formula.LAST
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON, quantity=9), record(at=NOON + 0.5, quantity=0)), NOON + 1)
        events = await open_book.freeze(NOON + 10, one_by_one=one_by_one)
        assert events[-1].value == "0"


async def test_one_lane_that_waits_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many windows of a busy lane stand in front, those of others have their turn."""
    monkeypatch.setattr(windows, "_PAGE", 5)
    monkeypatch.setattr(windows, "_MOST_PAGES", 2)
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({"stuck": "cus_1", "acme": "cus_2"})
        await open_book.commit(batch(*(record("stuck", at=NOON + n) for n in range(50))), NOON + 50)
        await open_book.commit(batch(record("acme", at=NOON + 51)), NOON + 51)
        events = []
        for _ in range(6):
            events += await open_book.freeze(NOON + 60, busy=lambda lane: lane[2] == "cus_1")
        assert [event.customer for event in events] == ["cus_2"]


async def test_a_refused_part_shows(tmp_path: Path) -> None:
    """An amount that was told in parts does not look billed while one of them is refused."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON, quantity=123_456_789_012_345_678)), NOON)
        first, second = await open_book.freeze(NOON + 10)
        await _answer(open_book, first, Accepted())
        await _answer(open_book, second, Refused(Reason.REJECTED, "no"))
        assert [standing for _, standing, _ in open_book.standings()] == ["quarantined"]


async def test_waiting_names_each_user_once(tmp_path: Path) -> None:
    """A user with many held windows is one entry, whatever the reasons; the limit holds."""
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({})
        usage = [record(user, at=NOON + n) for user in ("acme", "beta") for n in range(20)]
        await open_book.commit(batch(*usage), NOON + 20)
        await open_book.freeze(NOON + 60)
        both = [Reason.AMBIGUOUS_CUSTOMER, Reason.NO_CUSTOMER]
        assert sorted(w.user for w in await open_book.ledger.waiting(both, 10)) == ["acme", "beta"]
        assert len(await open_book.ledger.waiting(both, 1)) == 1
        assert await open_book.ledger.waiting([Reason.NO_METER], 10) == []


async def test_a_field_that_was_not_followed_is_not_complete(tmp_path: Path) -> None:
    """After a field was left out for a while its customers may have changed: it is listed again before it counts."""
    async with book(tmp_path) as open_book:
        await open_book.ledger.finish_listing("", ["account_id", "team"], 1, 5.0)
        state = await open_book.ledger.directory("", ["account_id"])
        assert set(state.listed) == {"account_id"}
        state = await open_book.ledger.directory("", ["account_id", "team"])
        assert set(state.listed) == {"account_id"}


async def test_a_listing_after_the_clock_was_set_back_forgets_too(tmp_path: Path) -> None:
    """Who is not in the newest listing is gone, even if the one before it claims to be newer."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1", "beta": "cus_2"}, generation=2_000)
        await open_book.list_customers({"beta": "cus_2"}, generation=1_000)
        change = CustomerChange("cus_3", {"account_id": "acme"})
        await open_book.ledger.apply_customers("", ["account_id"], [change], 1_001)
        await open_book.commit(batch(record(at=NOON)), NOON)
        (event,) = await open_book.freeze(NOON + 10)
        assert event.customer == "cus_3"
