"""Comparing a ledger with the double's summaries: what agrees costs few reads, and what differs is found and told."""

import time
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from compared import DAY, YESTERDAY, billed, compare, count, past, sent, used
from ledgers import Book

from otel_usageflow.exporters.stripe_meter.reconcile import NotComparable
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.reconcile import Cause, Pair, stretches
from otel_usageflow.model.outcome import Accepted, Refused, Retry
from otel_usageflow.model.usage import Reason
from otel_usageflow.testing.stripe import Fault, StripeDouble

SINCE, UNTIL = YESTERDAY - 2 * DAY, YESTERDAY + DAY


def pair(customer: str) -> Pair:
    return Pair("", "api_request", customer)


async def test_what_agrees_costs_one_read(tmp_path: Path) -> None:
    """Three whole days of one customer that agree are one read, decimals and all."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            for number in range(30):
                await billed(made, stripe, SINCE + 7_000 * number, Decimal("0.1") + number)
        compared, reads = await compare(tmp_path, stripe, pair(customer), SINCE, UNTIL)
        assert (compared.differences, compared.left_out, reads) == ([], 0, 1)


async def test_a_lost_event_is_named_to_the_minute(tmp_path: Path) -> None:
    """What Stripe has accepted and not counted is told with its minute and its identifier."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            await billed(made, stripe, YESTERDAY + 3_600, 7)
            lost = await sent(made, await used(made, YESTERDAY + 5_000, 5), Accepted("req_2"))
            await billed(made, stripe, YESTERDAY + 5_100, 5)
        compared, reads = await compare(tmp_path, stripe, pair(customer), SINCE, UNTIL)
    (found,) = compared.differences
    assert (found.cause, found.difference, found.events) == (Cause.LOST, -5, (lost.identifier,))
    assert (found.start, found.end) == (lost.timestamp // 60 * 60, lost.timestamp // 60 * 60 + 60)
    assert (found.timestamp, found.correctable) == (lost.timestamp, True)
    assert reads <= 12


async def test_what_another_program_sent_is_found(tmp_path: Path) -> None:
    """More in Stripe than the ledger knows of, in an hour in which the ledger has nothing at all."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            await billed(made, stripe, YESTERDAY + 10, 7)
        stripe.add_foreign("api_request", customer, "2.5", timestamp=YESTERDAY + 40_000)
        compared, _ = await compare(tmp_path, stripe, pair(customer), SINCE, UNTIL)
    (found,) = compared.differences
    assert (found.cause, found.difference, found.correctable) == (Cause.FOREIGN, Decimal("2.5"), True)
    assert found.start <= YESTERDAY + 40_000 < found.end


async def test_where_everything_differs_reads_are_bounded(tmp_path: Path) -> None:
    """Another program that sends all the time costs no read for each of its minutes; the amounts are still right."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            await billed(made, stripe, YESTERDAY + 10, 7)
        for number in range(3 * 24 * 4):
            stripe.add_foreign("api_request", customer, "1", timestamp=SINCE + 900 * number)
        compared, reads = await compare(tmp_path, stripe, pair(customer), SINCE, UNTIL)
    assert compared.difference == 3 * 24 * 4
    assert {one.cause for one in compared.differences} == {Cause.FOREIGN}
    assert reads <= 140


async def _unknown(made: Book, at: int) -> None:
    event = await used(made, at, 5)
    await sent(made, event, Retry("connection reset", uncertain=True))
    (event,) = await made.ledger.unsettled(0, 10)
    await made.ledger.expire(event, event.timestamp + 90_000)


@pytest.mark.parametrize("counted", [False, True])
async def test_an_unknown_outcome_is_told_as_such(tmp_path: Path, counted: bool) -> None:
    """Counted or not: an event of unknown outcome is never called lost or foreign, and is not mended."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            await billed(made, stripe, YESTERDAY + 10, 7)
            await _unknown(made, YESTERDAY + 20)
        if counted:
            stripe.add_foreign("api_request", customer, "5", timestamp=YESTERDAY + 20)
        compared, _ = await compare(tmp_path, stripe, pair(customer), SINCE, UNTIL)
    assert [(one.cause, one.correctable) for one in compared.differences] == (
        [(Cause.UNKNOWN_OUTCOME, False)] if counted else []
    )


async def test_what_stripe_refused_is_not_expected(tmp_path: Path) -> None:
    """A refused event is in no sum; if Stripe has counted it after all, that is told."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            await billed(made, stripe, YESTERDAY + 10, 7)
            refused = await used(made, YESTERDAY + 20, 5)
            await sent(made, refused, Refused(Reason.REJECTED, "no"))
        compared, _ = await compare(tmp_path, stripe, pair(customer), SINCE, UNTIL)
        assert compared.differences == []
        count(stripe, refused)
        compared, _ = await compare(tmp_path, stripe, pair(customer), SINCE, UNTIL)
    assert [(one.cause, one.events) for one in compared.differences] == [
        (Cause.COUNTED_AFTER_ALL, (refused.identifier,))
    ]


async def test_what_was_settled_within_the_hour_is_left_out(tmp_path: Path) -> None:
    """Old usage that Stripe took a moment ago may not be in its summaries yet: no difference, but said so."""
    now = time.time()
    at = int(now) - 3 * 3_600
    async with StripeDouble() as stripe:
        stripe.settings.summary_lag = 3_000
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            event = await used(made, at, 5)
            await sent(made, event, Accepted("req_1"), late=now - event.timestamp)
        count(stripe, event)
        compared, _ = await compare(tmp_path, stripe, pair(customer), at, at + 1)
        assert (compared.differences, compared.left_out) == ([], 1)
        compared, _ = await compare(tmp_path, stripe, pair(customer), at, at + 1, now + 3_700)
        assert [one.cause for one in compared.differences] == [Cause.LOST]
        stripe.clock.advance(3_001)
        compared, _ = await compare(tmp_path, stripe, pair(customer), at, at + 1, now + 3_700)
        assert (compared.differences, compared.left_out) == ([], 0)


@pytest.mark.parametrize("formula", [Formula.COUNT, Formula.LAST])
async def test_meters_that_do_not_sum(tmp_path: Path, formula: Formula) -> None:
    """A counting meter is compared by the number of events, one of last values by the latest; neither is mended."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", formula)
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            made.meters = {("", "api_request"): formula}
            await billed(made, stripe, YESTERDAY + 10, 1)
            await billed(made, stripe, YESTERDAY + 90, 1)
            compared, _ = await compare(tmp_path, stripe, pair(customer), SINCE, UNTIL)
            assert compared.differences == []
            await sent(made, await used(made, YESTERDAY + 95, 3), Accepted("req_1"))
        compared, _ = await compare(tmp_path, stripe, pair(customer), SINCE, UNTIL)
    (found,) = compared.differences
    assert found.difference == (-1 if formula is Formula.COUNT else -2)
    assert not found.correctable


async def test_stripe_stumbles_and_the_customer_is_gone(tmp_path: Path) -> None:
    """A few bad answers are overcome; a customer or a meter that does not exist is said to be not comparable."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            await billed(made, stripe, YESTERDAY + 10, 7)
        stripe.fault("/v1/billing/meters/", Fault.UNAVAILABLE, times=2)
        compared, _ = await compare(tmp_path, stripe, pair(customer), SINCE, UNTIL)
        assert compared.differences == []
        with pytest.raises(NotComparable, match="No such customer"):
            await compare(tmp_path, stripe, pair("cus_nobody"), SINCE, UNTIL)
        with pytest.raises(NotComparable, match="no meter"):
            await compare(tmp_path, stripe, Pair("", "other", customer), SINCE, UNTIL)


def test_a_time_is_cut_into_days_and_hours() -> None:
    """Whole UTC days where there are any, hours around them, and nothing twice."""
    cut = stretches(YESTERDAY - 7_000, YESTERDAY + 2 * DAY + 10)
    assert [(one.end - one.start, one.width) for one in cut] == [(7_200, 3_600), (2 * DAY, DAY), (3_600, 3_600)]
    assert all(one.end == two.start for one, two in pairwise(cut))
    assert [one.width for one in stretches(YESTERDAY + 100, YESTERDAY + 9_000)] == [3_600]
    assert stretches(YESTERDAY, YESTERDAY) == []
