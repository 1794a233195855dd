"""Rules between two parts of the ledger: what one leaves open, another must neither wait for nor guess about."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from billing import CHAT, batch, billing, record, total
from ledgers import METER, Book, book
from looking_back import HOUR, RHYTHM, clock_of, command, rows, states
from pruning import prune

from otel_usageflow.exporters.stripe_meter.reports import Reports
from otel_usageflow.extensions.sqlite_storage.correction import corrections
from otel_usageflow.extensions.sqlite_storage.correction.adjust import Asker, correct_usage
from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments
from otel_usageflow.extensions.sqlite_storage.doubt import verdicts
from otel_usageflow.extensions.sqlite_storage.file import transaction
from otel_usageflow.extensions.sqlite_storage.quarantine.decisions import Who
from otel_usageflow.extensions.sqlite_storage.quarantine.desk import Quarantine
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.correction import CorrectionState
from otel_usageflow.ledger.doubt import ErrorReport, Place, Read
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.judge import judge
from otel_usageflow.ledger.quarantine import Decided, Entry, Filters, Obstacle, Way, discard_of, release_of
from otel_usageflow.ledger.reconcile import Pair
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Refused, Retry
from otel_usageflow.model.usage import Reason, UnflaggedSpan, UsageBatch, UsageRecord
from otel_usageflow.testing.stripe import Fault, StripeDouble

EVENTS = "/v1/billing/meter_events"
ALONE: dict[str, Any] = {"reconcile": {"interval": "0s"}}
START = 1_700_000_000 // DAY * DAY
MINUTE = START // 60 * 60
ACME = Place("", "api_request", "cus_1", MINUTE)


async def _event(open_book: Book, at: float, quantity: int) -> MeterEvent:
    await open_book.commit(batch(record("acme", at=at, quantity=quantity)), at + 1)
    (event,) = await open_book.freeze(at + 100)
    await open_book.ledger.begin([event], at + 100)
    return event


async def _accepted(open_book: Book, at: float, quantity: int) -> MeterEvent:
    event = await _event(open_book, at, quantity)
    await open_book.ledger.settle(event, Accepted(), at + 101)
    return event


async def _unknown(open_book: Book, at: float, quantity: int) -> MeterEvent:
    event = await _event(open_book, at, quantity)
    await open_book.ledger.settle(event, Retry("reset", uncertain=True), at + 101)
    await open_book.ledger.expire(event, at + 102)
    return event


async def _settle(open_book: Book, reported: int, now: float) -> list[str]:
    """Settle what is in doubt by a summary; the states afterwards."""
    asked = await open_book.ledger.doubts.question(ACME, now, HOUR)
    if asked is not None:
        verdict = judge(Decimal(reported), Formula.SUM, asked.known, asked.candidates)
        await open_book.ledger.doubts.conclude(asked, verdict, Decimal(reported), now, HOUR)
    return states(open_book.directory)


async def test_the_event_of_a_correction_can_be_of_unknown_outcome(tmp_path: Path) -> None:
    """Its outcome is found out like any other; correction and event do not wait for each other."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **ALONE) as running:
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            stripe.fault(EVENTS, Fault.RESET_AFTER, times=1)
            outage = stripe.fault(EVENTS, Fault.RESET_BEFORE, times=None)
            asker = Asker("tester", "a test", time.time())
            name = stripe.accepted[0].identifier
            await asyncio.to_thread(Adjustments(tmp_path).correct_event, name, -3, asker)
            await stripe.wait_until(lambda: outage.fired >= 2)
            stripe.clock.advance(30 * HOUR)
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED", "UNKNOWN"])
            stripe.clear_faults()
            stripe.clock.advance(2 * HOUR)
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED", "ACCEPTED"])
            await stripe.wait_until(lambda: Adjustments(tmp_path).listed()[0].state is CorrectionState.BILLED)
        assert total(stripe, customer) == 4


async def test_a_cancellation_that_stayed_unclear_makes_nothing_else_certain(tmp_path: Path) -> None:
    """Stripe counted one of two equal amounts; whether the other was cancelled nobody knows, so nothing is resent."""
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        cancelled = await _accepted(open_book, MINUTE + 1, 5)
        await _unknown(open_book, MINUTE + 3, 5)
        asker = Asker("tester", "a test", MINUTE + 200)
        adjustments = Adjustments(tmp_path)
        asked = await asyncio.to_thread(adjustments.correct_event, cancelled.identifier, None, asker)
        (number,) = asked.numbers
        with command(tmp_path) as connection, transaction(connection):
            assert corrections.begin_cancel(connection, number, MINUTE + 201)
            corrections.become(connection, number, CorrectionState.UNCLEAR, "no answer", MINUTE + 2 * DAY)
            corrections.become(connection, number, CorrectionState.BY_HAND, "look first", MINUTE + 4 * DAY)
        assert await _settle(open_book, 5, MINUTE + 5 * DAY) == ["ACCEPTED", "UNKNOWN"]
        assert await _settle(open_book, 10, MINUTE + 5 * DAY) == ["ACCEPTED", "ACCEPTED"]


async def test_usage_of_another_exporter_explains_nothing(tmp_path: Path) -> None:
    """What another exporter's book has told the same customer and meter is known, not taken for the event's own."""
    async with book(tmp_path, window=1) as one:
        other = Book(one.storage.ledger("other test", 1), one.storage, tmp_path)
        for made in (one, other):
            await made.list_customers({"acme": "cus_1"})
        await _unknown(one, MINUTE + 1, 5)
        await _accepted(other, MINUTE + 2, 5)
        assert await _settle(one, 5, MINUTE + DAY) == ["FROZEN", "ACCEPTED"]


class ManyReports:
    """A Stripe with many reports, and a ledger that takes them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken: list[str] = []

    async def error_reports(self, _account: str, _since: str) -> AsyncIterator[list[Mapping[str, Any]]]:
        """All of them, each time."""
        reason = {"error_count": 0, "error_types": []}
        data = {
            "validation_start": "2026-01-01T00:00:00Z",
            "validation_end": "2026-01-01T00:00:10Z",
            "reason": reason,
        }
        yield [
            {"id": f"evt_{number}", "created": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z", "data": data}
            for number in range(self.number)
        ]

    async def report_cursor(self, _account: str) -> str | None:
        """From the beginning."""
        return "2026-01-01T00:00:00Z"

    async def take_reports(self, _account: str, _found: list[ErrorReport], created: str, _now: float) -> Read:
        """Take one."""
        self.taken.append(created)
        return Read()

    async def apply_reports(self, _account: str, _now: float) -> tuple[list[Any], bool]:
        """Nothing to apply."""
        return [], False


async def test_reports_are_read_when_all_are_read() -> None:
    """While more reports wait than are taken in one go, nothing rests on them; and the rest is read at once."""
    now, many = [1_767_226_000.0], ManyReports(450)
    reports = Reports(many, many, "", dict, lambda: 0, lambda: now[0], RHYTHM)  # type: ignore[arg-type]
    seen: list[tuple[bool, int]] = []
    following = asyncio.create_task(reports.follow())
    async with asyncio.timeout(5):
        while not reports.are_read():
            await asyncio.sleep(0)
            seen.append((reports.are_read(), len(many.taken)))
    following.cancel()
    assert len(many.taken) == 450


async def test_what_an_account_has_open_is_settled_though_no_policy_names_it(tmp_path: Path) -> None:
    """A policy moved to another account: what may not have been counted in the old one is found out and sent."""
    async with StripeDouble() as stripe:
        for account in ("acct_1", "acct_2"):
            stripe.add_meter("api_request", account=account)
            stripe.add_customer({"account_id": "acme"}, account=account)
        before, after = (replace(CHAT, account=account) for account in ("acct_1", "acct_2"))
        async with billing(tmp_path, stripe, (before,), clock=clock_of(stripe), rhythm=RHYTHM, **ALONE) as running:
            stripe.fault(EVENTS, Fault.RESET_BEFORE, times=None)
            await running.bill(record(quantity=7, terms=before))
            await stripe.wait_until(lambda: states(tmp_path) == ["SENDING"])
            stripe.clock.advance(30 * HOUR)
            await stripe.wait_until(lambda: states(tmp_path) == ["UNKNOWN"])
        stripe.clear_faults()
        async with billing(tmp_path, stripe, (after,), clock=clock_of(stripe), rhythm=RHYTHM, **ALONE):
            stripe.clock.advance(2 * HOUR)
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
        assert [event.value_text for event in stripe.accepted] == ["7"]


async def test_pruning_makes_nothing_certain(tmp_path: Path) -> None:
    """What explained a summary is pruned; then the summary decides nothing any more about what is still in doubt."""
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await _accepted(open_book, MINUTE + 1, 4)
        await _unknown(open_book, MINUTE + 3, 9)
        later = MINUTE + 20 * DAY
        await open_book.commit(batch(record("acme", at=later)), later)
        # Stripe has 13: 4 of ours and 9 of another program.
        assert await prune(open_book, later, retention=5 * DAY)
        assert rows(tmp_path, "SELECT count(*) FROM meter_events WHERE state = 2") == [(0,)]
        for reported in (9, 4, 0):
            assert await _settle(open_book, reported, later) == ["UNKNOWN"]


async def test_a_ledger_that_cannot_be_read_for_a_moment_stops_nothing(tmp_path: Path) -> None:
    """What only looks waits and looks again; the exporter goes on."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **ALONE) as running:
            watching = asyncio.create_task(running.exporter.watch())
            (tmp_path / "ledger.db").rename(tmp_path / "elsewhere.db")
            done, _ = await asyncio.wait([watching], timeout=0.5)
            (tmp_path / "elsewhere.db").rename(tmp_path / "ledger.db")
            assert not done, watching.exception()
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: total(stripe, customer) == 7)
            watching.cancel()


async def test_nothing_is_sent_to_a_meter_that_is_not_known_yet(tmp_path: Path) -> None:
    """After a start without an answer about the meters, events wait: their keys are the meter's to name."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", customer_key="who", value_key="much")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, **ALONE) as running:
            outage = stripe.fault(EVENTS, Fault.RESET_BEFORE, times=None)
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: outage.fired >= 1)
        stripe.clear_faults()
        meters = stripe.fault("/v1/billing/meters", Fault.UNAVAILABLE, times=None)
        async with billing(tmp_path, stripe, **ALONE):
            await stripe.wait_until(lambda: meters.fired >= 3)
            assert states(tmp_path) == ["SENDING"]
            stripe.clear_faults()
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
        assert total(stripe, customer) == 7


async def _told(open_book: Book, number: int, now: float) -> str:
    """Carry a correction out by a meter event, as the service does; its identifier."""
    one = (await asyncio.to_thread(Adjustments(open_book.directory).listed, [number]))[0]
    name = await open_book.ledger.corrections.tell(number, one.quantity, now)
    (event,) = await open_book.ledger.take_released(10)
    await open_book.ledger.begin([event], now)
    await open_book.ledger.settle(event, Accepted(), now)
    await open_book.ledger.corrections.become(number, CorrectionState.BILLED, "billed", now)
    return name


async def _rejected(open_book: Book, now: float) -> None:
    """Stripe reports that it has not counted the first event."""
    with command(open_book.directory) as connection, transaction(connection):
        ground = verdicts.Ground("service", "a report", {})
        verdicts.reject(connection, 1, "meter_event_invalid_value", "", ground, now)


def _quarantined(open_book: Book) -> list[Entry]:
    return [entry for page in Quarantine(open_book.directory).entries(Filters()) for entry in page]


async def test_what_was_corrected_and_then_rejected_is_not_discarded_by_itself(tmp_path: Path) -> None:
    """Its correction would stand alone and take off other usage: that is undone first, or the event released."""
    now = time.time()
    who = Who("ann", "a test")
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        event = await _accepted(open_book, now - 1_000, 5)
        ask = Adjustments(tmp_path).correct_event
        (number,) = (await asyncio.to_thread(ask, event.identifier, -3, Asker("ann", "too much", now))).numbers
        told = await _told(open_book, number, now)
        await _rejected(open_book, now)
        (entry,) = _quarantined(open_book)
        assert discard_of(entry) is Obstacle.CORRECTED
        assert Quarantine(tmp_path).discard([entry], who) == []
        assert release_of(entry, Decided(), now) is Way.RESEND

        (again,) = (await asyncio.to_thread(ask, told, None, Asker("ann", "it was not billed", now))).numbers
        await _told(open_book, again, now)
        assert len(Quarantine(tmp_path).discard(_quarantined(open_book), who)) == 1
        assert states(tmp_path) == ["DISCARDED", "ACCEPTED", "ACCEPTED"]


async def test_what_a_repair_has_billed_is_not_released_as_well(tmp_path: Path) -> None:
    """Stripe's report came after its sum was mended: the event would be billed twice."""
    now = time.time()
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        event = await _accepted(open_book, now - 1_000, 5)
        repair = Asker("ann", "lost", now, origin="reconcile")
        pair = Pair("", "api_request", "cus_1")
        with command(tmp_path) as connection, transaction(connection):
            asked = correct_usage(connection, 1, pair, 5, event.timestamp, repair, event.identifier)
        told = await _told(open_book, asked.numbers[0], now)
        await _rejected(open_book, now)
        entries = _quarantined(open_book)
        assert [release_of(entry, Decided(), now) for entry in entries] == [Obstacle.MADE_UP]
        assert Quarantine(tmp_path).release(entries, Decided(), Who("ann", "")) == []

        ask = Adjustments(tmp_path).correct_event
        (again,) = (await asyncio.to_thread(ask, told, None, Asker("ann", "reported since", now))).numbers
        await _told(open_book, again, now)
        assert len(Quarantine(tmp_path).release(_quarantined(open_book), Decided(), Who("ann", ""))) == 1


async def test_a_refused_event_of_a_stray_record_does_not_stop_pruning(tmp_path: Path) -> None:
    """A span whose end lay in the future has an event of its own that Stripe refused: it stays, all else goes."""
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({"acme": "cus_1", "beta": "cus_2"})
        stray = record("acme", at=MINUTE + 150)._replace(at_ns=(MINUTE + 20) * 10**9)
        await open_book.commit(batch(stray, record("beta", at=MINUTE + 5)), MINUTE + 21)
        for event in await open_book.freeze(MINUTE + 30, one_by_one=True):
            await open_book.ledger.begin([event], MINUTE + 30)
            outcome = Refused(Reason.REJECTED, "no") if event.customer == "cus_1" else Accepted()
            await open_book.ledger.settle(event, outcome, MINUTE + 31)
        later = MINUTE + 20 * DAY
        await open_book.commit(batch(record("acme", at=later)), later)
        assert await prune(open_book, later, retention=5 * DAY)
        assert rows(tmp_path, "SELECT customer, state FROM meter_events") == [("cus_1", 3)]
        kept = rows(tmp_path, "SELECT count(*) FROM records WHERE at_ns < ?", later * 10**9)
        assert kept == [(1,)]


async def test_a_charge_that_was_taken_back_is_not_the_last_value(tmp_path: Path) -> None:
    """An inner span that came before its outer one leaves no value behind on a meter that keeps the last one."""
    async with book(tmp_path, window=1) as open_book:
        open_book.meters[METER] = Formula.LAST
        await open_book.list_customers({"acme": "cus_1"})
        inner = record("acme", at=MINUTE + 10, quantity=9)
        outer = record("acme", at=MINUTE + 10.5, quantity=4)._replace(trace_id=inner.trace_id)
        before = record("acme", at=MINUTE + 9.2, quantity=3)
        spans = [
            UnflaggedSpan(inner.trace_id, inner.span_id, outer.span_id, "shop", inner.ended_ns),
            UnflaggedSpan(outer.trace_id, outer.span_id, b"", "shop", outer.ended_ns),
        ]
        await open_book.commit(UsageBatch([inner, before], [spans[0]]), MINUTE + 11)
        late = replace_end(outer, MINUTE + 8)
        await open_book.commit(UsageBatch([late], [spans[1]]), MINUTE + 12)
        frozen = await open_book.freeze(MINUTE + 30)
        assert [event.value for event in frozen] == ["3"]


def replace_end(one: UsageRecord, at: int) -> UsageRecord:
    """The record of a span that ended then."""
    return one._replace(ended_ns=at * 10**9, at_ns=at * 10**9)
