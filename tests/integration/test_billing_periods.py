"""Which usage lands in which billing period, for a period that ends in the middle of a UTC minute."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from billing import billing, record
from compared import YESTERDAY

from otel_usageflow.exporters.stripe_meter.api import connect
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.summaries import Summaries
from otel_usageflow.testing.stripe import StripeDouble

MINUTE = YESTERDAY + 12 * 3_600
ANCHOR = MINUTE + 35
"""The second at which the billing period changes: the 35th of a minute."""


def sides(stripe: StripeDouble) -> tuple[Decimal, Decimal]:
    """What Stripe bills before and after the anchor, by the timestamps; the anchor's own second is after."""
    before = sum((event.value for event in stripe.accepted if event.timestamp < ANCHOR), Decimal(0))
    return before, sum((event.value for event in stripe.accepted), Decimal(0)) - before


async def summary(stripe: StripeDouble, customer: str, start: int, end: int) -> Decimal:
    """What the meter's summary says."""
    config = {"api_key": stripe.api_key, "endpoints": {"api": stripe.url}, "sending_queue": {"storage": "s"}}
    async with connect(StripeMeterConfig.model_validate(config)) as api:
        (meter,) = await api.meters("")
        found = await Summaries(api).summaries("", meter.id, customer, start, end)
    return sum((one.value for one in found), Decimal(0))


USAGE = {10.0: 1, 25.0: 10, 32.0: 100, 34.9: 1_000, 35.0: 10_000, 38.0: 100_000, 50.0: 1_000_000}
"""Second of the minute at which a request ended -> its quantity; four before the anchor, three after."""


@pytest.mark.parametrize(
    ("aggregation", "before"),
    [
        pytest.param({"window": "0s"}, 1_111, id="0s: to the second"),
        pytest.param({"window": "10s", "max_window": "10s"}, 11, id="10s: but for the window of the anchor"),
        pytest.param({"window": "60s"}, 0, id="60s: the whole minute on the side of its last request"),
    ],
)
async def test_a_period_that_ends_in_the_middle_of_a_minute(
    tmp_path: Path, aggregation: dict[str, Any], before: int
) -> None:
    """A sum has one timestamp, that of its last request, and is billed in the period of that: nothing is lost."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, aggregation=aggregation) as running:
            await running.bill(*(record(at=MINUTE + second, quantity=n) for second, n in USAGE.items()))
            await stripe.wait_until(lambda: stripe.total("api_request", customer) == sum(USAGE.values()))
        assert sides(stripe) == (before, sum(USAGE.values()) - before)
        # Stripe's summaries know whole minutes only; this minute has all of it, and its neighbours nothing.
        assert await summary(stripe, customer, MINUTE, MINUTE + 60) == sum(USAGE.values())
        assert await summary(stripe, customer, MINUTE - 60, MINUTE) == 0


async def test_a_minute_without_usage_after_the_anchor_is_billed_before(tmp_path: Path) -> None:
    """What ended before the anchor is never billed after it by itself, however long the window is."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, aggregation={"window": "60s"}) as running:
            await running.bill(record(at=MINUTE + 3, quantity=2), record(at=MINUTE + 34.9, quantity=3))
            await running.bill(record(at=MINUTE + 61, quantity=7))
            await stripe.wait_until(lambda: stripe.total("api_request", customer) == 12)
        assert sides(stripe) == (5, 7)


async def test_a_late_span_keeps_its_period(tmp_path: Path) -> None:
    """A span that arrives after its window was sent is an event of its own, with its own time."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, aggregation={"window": "60s"}) as running:
            await running.bill(record(at=MINUTE + 50, quantity=2))
            await stripe.wait_until(lambda: stripe.total("api_request", customer) == 2)
            await running.bill(record(at=MINUTE + 20, quantity=3))
            await stripe.wait_until(lambda: stripe.total("api_request", customer) == 5)
        assert sides(stripe) == (3, 2)


async def test_windows_that_wait_merge_up_to_max_window(tmp_path: Path) -> None:
    """After an outage the windows of a minute become one event, so `max_window` bounds what can change sides."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, aggregation={"window": "10s", "max_window": "60s"}) as running:
            await running.bill(record(at=MINUTE + 5, quantity=2), record(at=MINUTE + 50, quantity=3))
            await stripe.wait_until(lambda: stripe.total("api_request", customer) == 5)
        assert sides(stripe) == (0, 5)
