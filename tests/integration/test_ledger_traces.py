"""Requests whose quantity is summed over their trace: what waits, what is billed, and what comes too late."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from ledgers import Book, book
from traces import NOW, SECOND, TERMS, TOKENS, request, settle_traces, span, trace_batch

from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.quarantine import filing
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.quarantine import Decided
from otel_usageflow.model.usage import Reason, TraceRequest, TraceSpan

ENTRY = span(1, 90, entry=True)
DUE = NOW + 5


@asynccontextmanager
async def open_book(directory: Path) -> AsyncIterator[Book]:
    """A ledger with a customer and the meter of `TERMS`."""
    async with book(directory) as opened:
        opened.meters[("", TERMS.event_name)] = Formula.SUM
        await opened.list_customers({"acme": "cus_1", "beta": "cus_2"})
        yield opened


async def take(opened: Book, *things: TraceSpan | TraceRequest, at: float = NOW) -> None:
    """Commit a batch."""
    await opened.commit(trace_batch(*things), at)


async def test_a_request_is_billed_when_its_wait_is_over(tmp_path: Path) -> None:
    """Not before, because spans may come; then with the sum of its leaves, at the request's own end."""
    async with open_book(tmp_path) as opened:
        await take(opened, span(3, 2, tokens=10))
        await take(opened, ENTRY, request(1), at=NOW + 1)
        await take(opened, span(2, 1, tokens=15), span(4, 2, tokens=5), at=NOW + 2)
        assert (await settle_traces(opened, DUE + 0.9)).next_due == DUE + 1
        assert opened.standings() == {}
        assert (await opened.ledger.waiting_traces())[:2] == (1, NOW)
        done = await settle_traces(opened, DUE + 1)
        assert (done.next_due, done.billed, done.late) == (None, 1, 0)
        (event,) = await opened.freeze(NOW + 20)
        assert (event.value, event.timestamp) == ("15", NOW)
        assert (await opened.ledger.waiting_traces())[:2] == (0, None)


async def test_a_commit_says_when_something_is_due(tmp_path: Path) -> None:
    """So that whoever settles can sleep until then."""
    async with open_book(tmp_path) as opened:
        spans_only = await opened.ledger.commit(trace_batch(span(2, 1, tokens=1)), NOW)
        with_request = await opened.ledger.commit(trace_batch(ENTRY, request(1)), NOW + 1)
        again = await opened.ledger.commit(trace_batch(ENTRY, request(1)), NOW + 2)
        assert (spans_only.due, with_request.due, again.due) == (None, DUE + 1, None)
        assert (with_request.duplicates, again.duplicates) == (0, 1)


async def test_what_waits_is_there_after_a_restart(tmp_path: Path) -> None:
    """Acknowledged means on the disk, waiting or not; the wait goes on, whatever policies there are now."""
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, request(1))
    async with open_book(tmp_path) as opened:
        assert [one.event_name for one in await opened.ledger.unfinished()] == [TERMS.event_name]
        await take(opened, span(2, 1, tokens=7), at=NOW + 3)
    async with open_book(tmp_path) as opened:
        await settle_traces(opened, DUE)
        assert opened.standings() == {("acme", "collecting", None): (1, "7")}


async def test_a_clock_that_was_far_ahead_makes_nothing_wait_for_ever(tmp_path: Path) -> None:
    """After a restart a wait is never longer than it would be for a request that comes now."""
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, span(2, 1, tokens=7), request(1), at=NOW + 10**8)
    async with open_book(tmp_path) as opened:
        assert (await settle_traces(opened, NOW)).next_due == DUE
        assert (await settle_traces(opened, DUE)).billed == 1


async def test_sent_twice_is_billed_once(tmp_path: Path) -> None:
    """Before the decision and after it."""
    everything = (ENTRY, span(2, 1, tokens=7), request(1))
    async with open_book(tmp_path) as opened:
        for _ in range(2):
            await take(opened, *everything)
            await take(opened, *everything, at=NOW + 1)
            await settle_traces(opened, DUE + 30)
        assert opened.standings() == {("acme", "collecting", None): (1, "7")}


async def test_no_span_with_the_attribute_is_a_bad_quantity(tmp_path: Path) -> None:
    """It is kept, and without a user the reason is that."""
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, request(1), span(2, 1, entry=True), request(2, user=None))
        await settle_traces(opened, DUE)
        assert {key: count for key, (count, _) in opened.standings().items()} == {
            ("acme", "quarantined", "bad_quantity"): 1,
            ("", "quarantined", "no_user"): 1,
        }


async def test_a_late_span_is_usage_of_its_own(tmp_path: Path) -> None:
    """It is billed to the request's user at its own end; it is there once, and what repeats it is not billed."""
    late_end = (NOW + 60) * SECOND
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, span(2, 1, tokens=7), request(1))
        await settle_traces(opened, DUE)
        for _ in range(2):
            await take(opened, span(3, 1, tokens=30, ended_ns=late_end), at=NOW + 70)
            await settle_traces(opened, NOW + 80)
        await take(opened, span(4, 3, tokens=20), span(5, 2, tokens=7), at=NOW + 90)
        done = await settle_traces(opened, NOW + 100)
        assert (done.billed, done.late) == (0, 0)
        events = await opened.freeze(NOW + 100, max_window=10)
        events += await opened.freeze(NOW + 100, max_window=10)
        assert [(one.value, one.timestamp) for one in events] == [("7", NOW), ("30", NOW + 60)]


async def test_late_spans_wait_for_one_another(tmp_path: Path) -> None:
    """In whatever order an agent and what it repeats come late, they count once."""
    for number, order in enumerate([(3, 4, 5), (5, 4, 3)]):
        late = {3: span(3, 1, tokens=9), 4: span(4, 3, tokens=5), 5: span(5, 3, tokens=3)}
        async with open_book(tmp_path / str(number)) as opened:
            await take(opened, ENTRY, span(2, 1, tokens=1), request(1))
            await settle_traces(opened, DUE)
            for moment, one in enumerate(order):
                await take(opened, late[one], at=NOW + 60 + moment)
            await settle_traces(opened, NOW + 70)
            assert opened.standings() == {("acme", "collecting", None): (3, "9")}


async def test_late_spans_of_a_bad_quantity_complete_it(tmp_path: Path) -> None:
    """The request leaves quarantine as billed, with what has come; what comes then is usage of its own."""
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, request(1))
        await settle_traces(opened, DUE)
        await take(opened, span(2, 1, tokens=7), at=NOW + 60)
        await settle_traces(opened, NOW + 65)
        assert opened.standings() == {("acme", "collecting", None): (1, "7")}
        await take(opened, span(3, 1, tokens=1), at=NOW + 70)
        await settle_traces(opened, NOW + 75)
        assert opened.standings() == {("acme", "collecting", None): (2, "8")}


async def test_a_late_number_that_cannot_be_billed_is_kept(tmp_path: Path) -> None:
    """Under its own name, and without touching the request."""
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, span(2, 1, tokens=7), request(1))
        await settle_traces(opened, DUE)
        await take(opened, span(3, 1, amounts={TOKENS: None}), at=NOW + 60)
        await settle_traces(opened, NOW + 65)
        assert opened.standings()["acme", "collecting", None] == (1, "7")
        assert opened.standings()["acme", "quarantined", "bad_quantity"][0] == 1


async def test_a_request_that_comes_again_with_a_user_is_billed(tmp_path: Path) -> None:
    """As other quarantine is, for example after a policy was fixed; late spans of it are taken along."""
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, span(2, 1, tokens=7), request(1, user=None))
        await settle_traces(opened, DUE)
        await take(opened, span(3, 1, tokens=2), at=NOW + 60)
        await settle_traces(opened, NOW + 65)
        assert opened.standings() == {("", "quarantined", "no_user"): (2, "9")}
        await take(opened, ENTRY, request(1), at=NOW + 70)
        await settle_traces(opened, NOW + 75)
        assert opened.standings() == {("acme", "collecting", None): (1, "9")}


async def test_what_nobody_can_tell_waits_in_quarantine_until_somebody_can(tmp_path: Path) -> None:
    """With two requests of one service and a span missing between; when that comes, it is billed."""
    other = span(2, 90, entry=True)
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, other, span(3, 1, tokens=1), span(4, 2, tokens=2), span(6, 5, tokens=40))
        await take(opened, request(1), request(2, user="beta"))
        await settle_traces(opened, DUE)
        assert opened.standings() == {
            ("acme", "collecting", None): (1, "1"),
            ("beta", "collecting", None): (1, "2"),
            ("", "quarantined", "no_user"): (1, "40"),
        }
        await take(opened, span(5, 2), at=NOW + 60)
        await settle_traces(opened, NOW + 65)
        assert opened.standings() == {
            ("acme", "collecting", None): (1, "1"),
            ("beta", "collecting", None): (2, "42"),
        }


async def test_work_in_the_background_is_counted_and_not_billed(tmp_path: Path) -> None:
    """It belongs to no request."""
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, span(2, 1, tokens=1), request(1), span(8), span(9, 8, tokens=100))
        assert (await settle_traces(opened, DUE)).unclaimed == 1
        assert opened.standings() == {("acme", "collecting", None): (1, "1")}


@pytest.mark.parametrize("inner_first", [True, False])
async def test_an_inner_span_of_an_old_sdk_is_not_billed_while_it_waits(tmp_path: Path, inner_first: bool) -> None:
    """The outer request has everything, whichever of the two comes first."""
    outer = trace_batch(span(1, 90, entry=None), request(1))
    inner = trace_batch(span(2, 1, entry=None), request(2), span(3, 2, tokens=7))
    async with open_book(tmp_path) as opened:
        for one in (inner, outer) if inner_first else (outer, inner):
            await opened.commit(one, NOW)
        await settle_traces(opened, DUE)
        assert opened.standings() == {("acme", "collecting", None): (1, "7")}


async def test_a_settled_inner_span_is_taken_back(tmp_path: Path) -> None:
    """As long as its window is open; then what it had counts for the outer request."""
    async with open_book(tmp_path) as opened:
        await take(opened, span(2, 1, entry=None), request(2), span(3, 2, tokens=7))
        await settle_traces(opened, DUE)
        await take(opened, span(1, 90, entry=None), request(1), span(4, 1, tokens=1), at=DUE)
        await settle_traces(opened, DUE + 5)
        assert opened.standings() == {("acme", "collecting", None): (1, "8")}


async def test_a_number_on_a_taken_back_inner_span_counts_for_the_outer_one(tmp_path: Path) -> None:
    """Its own charge is gone, and what it holds is not lost with it."""
    async with open_book(tmp_path) as opened:
        await take(opened, span(2, 1, entry=None, tokens=7), request(2))
        await settle_traces(opened, DUE)
        await take(opened, span(1, 90, entry=None), request(1), at=DUE)
        await settle_traces(opened, DUE + 5)
        assert opened.standings() == {("acme", "collecting", None): (1, "7")}


async def test_a_frozen_inner_span_stands_for_the_request(tmp_path: Path) -> None:
    """What else the outer one has is billed as well, by itself, and nothing twice."""
    async with open_book(tmp_path) as opened:
        await take(opened, span(2, 1, entry=None), request(2), span(3, 2, tokens=7))
        await settle_traces(opened, DUE)
        assert [one.value for one in await opened.freeze(NOW + 20)] == ["7"]
        await take(opened, span(1, 90, entry=None), request(1), span(4, 1, tokens=1), at=NOW + 20)
        await settle_traces(opened, NOW + 30)
        assert [one.value for one in await opened.freeze(NOW + 30)] == ["1"]


async def test_two_exporters_keep_traces_apart(tmp_path: Path) -> None:
    """With one storage, each has its own spans, requests and waits."""
    async with open_book(tmp_path) as opened:
        other = opened.storage.ledger("stripe_meter other", 10)
        await take(opened, ENTRY, request(1))
        await other.commit(trace_batch(ENTRY, span(2, 1, tokens=5), request(1)), NOW)
        await settle_traces(opened, DUE)
        assert {key: count for key, (count, _) in opened.standings().items()} == {
            ("acme", "quarantined", "bad_quantity"): 1
        }
        assert (await other.settle_traces(DUE)).billed == 1


async def test_many_requests_are_settled_in_bounded_steps(tmp_path: Path) -> None:
    """No transaction takes more than some hundred, and none is forgotten."""
    async with open_book(tmp_path) as opened:
        for number in range(450):
            trace = (1_000 + number).to_bytes(16, "big")
            await take(
                opened,
                span(1, 90, entry=True, trace=trace),
                span(2, 1, tokens=1, trace=trace),
                request(1, trace=trace),
            )
        first = await opened.ledger.settle_traces(DUE)
        assert first.requests == 200
        assert first.next_due == DUE
        await settle_traces(opened, DUE)
        assert opened.standings() == {("acme", "collecting", None): (450, "450")}


async def test_a_request_that_is_too_old_is_kept_as_such(tmp_path: Path) -> None:
    """It is judged when it is filed, as all usage is."""
    long_ago = (NOW - 36 * 86_400) * SECOND
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, span(2, 1, tokens=7), request(1, ended_ns=long_ago))
        await settle_traces(opened, DUE)
        assert opened.standings() == {("acme", "quarantined", str(Reason.TOO_OLD)): (1, "7")}


def _called(number: int, identity: bytes, trace: bytes) -> TraceRequest:
    one = request(number, trace=trace, ended_ns=(NOW + number) * SECOND)
    return one._replace(record=one.record._replace(request_id=identity))


async def test_two_reports_of_one_request_are_billed_once(tmp_path: Path) -> None:
    """With a request id in unrelated traces, one with a quantity counts; late spans of the others are not billed."""
    identity, first, second, third = bytes([7]) * 16, bytes([1]) * 16, bytes([2]) * 16, bytes([3]) * 16
    async with open_book(tmp_path) as opened:
        await take(opened, span(1, 90, entry=True, trace=first), _called(1, identity, first))
        for number, trace, tokens in ((2, second, 7), (3, third, 8)):
            await take(
                opened,
                span(number, 90, entry=True, trace=trace),
                span(9, number, tokens=tokens, trace=trace),
                _called(number, identity, trace),
            )
        await settle_traces(opened, NOW + 10)
        assert opened.standings() == {("acme", "collecting", None): (1, "7")}
        await take(opened, span(8, 3, tokens=100, trace=third), at=NOW + 60)
        await settle_traces(opened, NOW + 65)
        assert opened.standings() == {("acme", "collecting", None): (1, "7")}


async def test_what_counts_for_one_no_more_counts_for_the_other(tmp_path: Path) -> None:
    """A number that stood with the only request that was known is not lost when that is summed anew."""
    async with open_book(tmp_path) as opened:
        await take(opened, span(2, 90, entry=True), request(2, wait=20))
        await take(opened, span(3, 7, tokens=1), span(4, 8, tokens=2))  # below two spans that are missing
        await settle_traces(opened, NOW + 20)
        assert opened.standings()["acme", "quarantined", "bad_quantity"][0] == 1
        await take(opened, span(1, 91, entry=True), request(1, wait=1), span(8, 1), at=NOW + 30)
        await settle_traces(opened, NOW + 31)
        assert opened.standings()["acme", "collecting", None] == (1, "0")
        await take(opened, span(7, 2), at=NOW + 32)
        await settle_traces(opened, NOW + 34)
        await settle_traces(opened, NOW + 60)
        assert opened.standings() == {("acme", "collecting", None): (3, "3")}


async def test_a_stray_that_repeats_what_is_billed_leaves_quarantine(tmp_path: Path) -> None:
    """Otherwise somebody could release it, and it would be billed twice."""
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, request(1), span(2, 90, entry=True), span(4, 3, tokens=5))
        await take(opened, span(5, 1, tokens=1))
        await settle_traces(opened, DUE)
        assert opened.standings()["", "quarantined", "no_user"] == (1, "5")
        await take(opened, span(6, 4, tokens=5), at=NOW + 30)
        await settle_traces(opened, NOW + 35)
        assert opened.standings()["", "quarantined", "no_user"] == (1, "5")
        await take(opened, span(3, 1), at=NOW + 40)
        await settle_traces(opened, NOW + 45)
        assert opened.standings() == {("acme", "collecting", None): (2, "6")}


async def test_a_stray_that_somebody_released_is_no_part_of_a_request(tmp_path: Path) -> None:
    """It was billed as they said; the request that it turns out to belong to has what else it has."""
    async with open_book(tmp_path) as opened:
        await take(opened, ENTRY, request(1), span(2, 90, entry=True), span(4, 3, tokens=5), span(5, 1, tokens=1))
        await settle_traces(opened, DUE)
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
            keys = [key for (key,) in connection.execute("SELECT key FROM quarantine")]
        decided = Decided(user="beta")
        await opened.storage._writer.run(lambda c: filing.file(c, Names, keys, decided, NOW + 10))
        await take(opened, span(10, 90, entry=True), request(10), span(3, 10), span(11, 10, tokens=2), at=NOW + 30)
        await settle_traces(opened, NOW + 35)
        assert opened.standings() == {
            ("acme", "collecting", None): (2, "3"),
            ("beta", "collecting", None): (1, "5"),
        }
