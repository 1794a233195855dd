"""Reading summaries: aligned, page by page, in the order of time."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from looking_back import HOUR

from otel_usageflow.exporters.stripe_meter.api import connect
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.summaries import ReadPace, Summaries
from otel_usageflow.testing.stripe import StripeDouble


async def test_more_than_a_page_is_read_to_the_end() -> None:
    """Ten days by the hour are three pages; each is a read, and the hours come in order, as they were used."""
    async with StripeDouble() as stripe:
        meter = stripe.add_meter("api_request")
        customer = stripe.add_customer()
        end = int(stripe.clock.now() // HOUR * HOUR)
        start = end - 240 * int(HOUR)
        for hour, value in ((0, "1"), (150, "2.5"), (239, "4")):
            stripe.add_foreign("api_request", customer, value, timestamp=start + hour * int(HOUR))
        async with connect(_config(stripe)) as api:
            summaries = Summaries(api, ReadPace(per_second=1_000))
            read = await summaries.summaries("", meter, customer, start, end, "hour")
            (whole,) = await summaries.summaries("", meter, customer, start, end)
        assert [one.start for one in read] == list(range(start, end, int(HOUR)))
        assert {place: one.value for place, one in enumerate(read) if one.value} == {
            0: Decimal(1),
            150: Decimal("2.5"),
            239: Decimal(4),
        }
        assert whole.value == Decimal("7.5")
        assert stripe.reads("/v1/billing/meters") == 4


@pytest.mark.parametrize(
    ("start", "end", "grouping"), [(30, 120, None), (60, 60, None), (60, 7_200, "hour"), (0, 3_600, "day")]
)
async def test_bounds_that_stripe_refuses_are_a_mistake_of_the_caller(start: int, end: int, grouping: Any) -> None:
    """They are refused before a read is spent."""
    with pytest.raises(ValueError, match="cannot be read"):
        await Summaries(cast("Any", SimpleNamespace())).summaries("", "mtr_1", "cus_1", start, end, grouping)


def _config(stripe: StripeDouble) -> StripeMeterConfig:
    return StripeMeterConfig.model_validate(
        {
            "api_key": stripe.api_key,
            "endpoints": {"api": stripe.url, "meter_events": stripe.url, "connect": stripe.url},
            "sending_queue": {"storage": "sqlite_storage"},
        }
    )
