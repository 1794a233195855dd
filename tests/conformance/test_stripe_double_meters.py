"""Stripe, meters: their life, what they add up, how it is read back and taken back."""

from typing import Any

import pytest
import stripe
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import ManualClock, RateLimits, Settings, StripeDouble

HOUR, DAY = 3_600, 86_400
MIDNIGHT = 1_790_035_200
NOW = MIDNIGHT + 13 * HOUR


@pytest.fixture
async def double() -> Any:
    """A double whose clock stands still in the afternoon."""
    settings = Settings(limits=RateLimits.off(), latency=0)
    async with StripeDouble(clock=ManualClock(NOW), settings=settings) as running:
        yield running


async def summaries(client: stripe.StripeClient, meter: str, customer: str, **params: Any) -> list[tuple[int, float]]:
    """(start, value) of all summaries, through all pages."""
    answer = await client.v1.billing.meters.event_summaries.list_async(meter, {"customer": customer, **params})  # type: ignore[typeddict-item]
    return [(summary.start_time, summary.aggregated_value) async for summary in answer.auto_paging_iter()]


async def test_the_clock_of_these_tests_starts_at_midnight() -> None:
    """The constant that the windows below stand on is a midnight in UTC."""
    assert MIDNIGHT % DAY == 0


async def test_a_meter_lives_as_documented(double: StripeDouble) -> None:
    """A meter is made, renamed, deactivated and reactivated; nothing else changes."""
    async with sdk(double) as client:
        made = await client.v1.billing.meters.create_async(
            {
                "display_name": "Requests",
                "event_name": "api_request",
                "default_aggregation": {"formula": "sum"},
                "customer_mapping": {"event_payload_key": "who", "type": "by_id"},
                "value_settings": {"event_payload_key": "amount"},
            }
        )
        assert made.to_dict() == {
            "id": made.id,
            "object": "billing.meter",
            "created": NOW,
            "customer_mapping": {"event_payload_key": "who", "type": "by_id"},
            "default_aggregation": {"formula": "sum"},
            "display_name": "Requests",
            "event_name": "api_request",
            "event_time_window": None,
            "livemode": False,
            "status": "active",
            "status_transitions": {"deactivated_at": None},
            "updated": NOW,
            "value_settings": {"event_payload_key": "amount"},
        }
        double.clock.advance(5)
        assert (await client.v1.billing.meters.update_async(made.id, {"display_name": "Calls"})).updated == NOW + 5
        off = await client.v1.billing.meters.deactivate_async(made.id)
        assert (off.status, off.status_transitions.deactivated_at) == ("inactive", NOW + 5)
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.billing.meters.deactivate_async(made.id)
        on = await client.v1.billing.meters.reactivate_async(made.id)
        assert (on.status, on.display_name) == ("active", "Calls")
        events = (await client.v1.events.list_async({"type": "billing.meter.*"})).data
    kinds = [event.type.removeprefix("billing.meter.") for event in reversed(events)]
    assert kinds == ["created", "updated", "deactivated", "reactivated"]


async def test_an_event_name_is_taken_for_good(double: StripeDouble) -> None:
    """A second meter of one event name is refused, even when the first is inactive."""
    double.add_meter("api_request")
    double.deactivate_meter("api_request")
    async with sdk(double) as client:
        with pytest.raises(stripe.InvalidRequestError, match="api_request"):
            await client.v1.billing.meters.create_async(
                {
                    "display_name": "x",
                    "event_name": "api_request",
                    "default_aggregation": {"formula": "count"},
                }
            )


async def test_meters_are_listed_by_status_and_paged(double: StripeDouble) -> None:
    """The list is newest first, in pages, and narrowed by status."""
    names = [f"m{n}" for n in range(12)]
    for name in names:
        double.add_meter(name)
    double.deactivate_meter("m5")
    async with sdk(double) as client:
        first = await client.v1.billing.meters.list_async({})
        assert (len(first.data), first.has_more) == (10, True)
        every = await client.v1.billing.meters.list_async({"limit": 5})
        assert [meter.event_name async for meter in every.auto_paging_iter()] == names[::-1]
        active = await client.v1.billing.meters.list_async({"status": "active", "limit": 100})
        assert "m5" not in [meter.event_name for meter in active.data]
        inactive = await client.v1.billing.meters.list_async({"status": "inactive"})
        assert [meter.event_name for meter in inactive.data] == ["m5"]


@pytest.mark.parametrize(
    ("formula", "window", "expected"),
    [
        ("sum", None, 15),
        ("count", None, 4),
        ("last", None, 8),
        ("sum", "hour", 14),
        ("sum", "day", 4),
        ("count", "hour", 3),
    ],
)
async def test_formula_and_time_window_decide_the_total(
    double: StripeDouble, formula: str, window: str | None, expected: int
) -> None:
    """Sums, counts, the last by time; in a pre-aggregated window only what was received last counts."""
    double.add_meter("api_request", formula, event_time_window=window)
    customer = double.add_customer()
    times = [(MIDNIGHT + 60, "1"), (MIDNIGHT + 120, "2"), (NOW, "8"), (MIDNIGHT + 2 * HOUR, "4")]
    async with sdk(double) as client:
        for number, (timestamp, value) in enumerate(times):
            await send(client, customer, value, identifier=f"e{number}", timestamp=timestamp)
    assert double.total("api_request", customer) == expected


async def test_summaries_group_by_window_and_page(double: StripeDouble) -> None:
    """Start is inclusive, end exclusive; every window is listed, ten at a time unless more are asked for."""
    meter = double.add_meter("api_request")
    customer, other = double.add_customer(), double.add_customer()
    async with sdk(double) as client:
        for number, (offset, value) in enumerate([(0, "1"), (HOUR - 1, "2.5"), (HOUR, "4"), (12 * HOUR, "8")]):
            await send(client, customer, value, identifier=f"e{number}", timestamp=MIDNIGHT + offset)
        await send(client, other, "100", identifier="other", timestamp=MIDNIGHT)
        bounds = {"start_time": MIDNIGHT, "end_time": MIDNIGHT + 12 * HOUR}
        assert await summaries(client, meter, customer, **bounds) == [(MIDNIGHT, 7.5)]
        hours = await summaries(client, meter, customer, value_grouping_window="hour", **bounds)
        assert len(hours) == 12
        assert [(start - MIDNIGHT, value) for start, value in hours if value] == [(HOUR, 4), (0, 3.5)]
        days = {"start_time": MIDNIGHT - DAY, "end_time": MIDNIGHT + DAY, "value_grouping_window": "day"}
        assert await summaries(client, meter, customer, **days) == [(MIDNIGHT, 15.5), (MIDNIGHT - DAY, 0)]
        first = await client.v1.billing.meters.event_summaries.list_async(
            meter,
            {"customer": customer, "value_grouping_window": "hour", **bounds},  # type: ignore[typeddict-item]
        )
        assert (len(first.data), first.has_more) == (10, True)
        assert (first.data[0].meter, first.data[0].object) == (meter, "billing.meter_event_summary")


@pytest.mark.parametrize(
    ("start", "end", "window"),
    [
        (MIDNIGHT + 1, MIDNIGHT + 60, None),
        (MIDNIGHT, MIDNIGHT + 61, None),
        (MIDNIGHT + 60, MIDNIGHT + HOUR, "hour"),
        (MIDNIGHT, MIDNIGHT + HOUR, "day"),
        (MIDNIGHT, MIDNIGHT, None),
    ],
)
async def test_misaligned_bounds_are_refused(double: StripeDouble, start: int, end: int, window: str | None) -> None:
    """Bounds are whole minutes, hours or UTC days, as the grouping needs, and in order."""
    meter, customer = double.add_meter("api_request"), double.add_customer()
    grouping = {} if window is None else {"value_grouping_window": window}
    async with sdk(double) as client:
        with pytest.raises(stripe.InvalidRequestError) as caught:
            await summaries(client, meter, customer, start_time=start, end_time=end, **grouping)
    assert caught.value.http_status == 400


async def test_summaries_lag_behind(double: StripeDouble) -> None:
    """A summary includes an event only after the lag."""
    double.settings.summary_lag = 120
    meter, customer = double.add_meter("api_request"), double.add_customer()
    bounds = {"start_time": MIDNIGHT, "end_time": MIDNIGHT + DAY}
    async with sdk(double) as client:
        await send(client, customer, "3", timestamp=NOW)
        assert await summaries(client, meter, customer, **bounds) == [(MIDNIGHT, 0)]
        double.clock.advance(120)
        assert await summaries(client, meter, customer, **bounds) == [(MIDNIGHT, 3)]


async def test_summaries_need_a_known_meter_and_customer(double: StripeDouble) -> None:
    """An unknown meter or customer is a missing resource."""
    meter, customer = double.add_meter("api_request"), double.add_customer()
    bounds = {"start_time": MIDNIGHT, "end_time": MIDNIGHT + DAY}
    async with sdk(double) as client:
        for known in ((meter, "cus_x"), ("mtr_x", customer)):
            with pytest.raises(stripe.InvalidRequestError) as caught:
                await summaries(client, *known, **bounds)
            assert caught.value.code == "resource_missing"


async def test_an_event_can_be_taken_back_within_a_day(double: StripeDouble) -> None:
    """A cancelled event counts no more; its identifier stays taken; it cannot be cancelled twice."""
    double.add_meter("api_request")
    customer = double.add_customer()

    async def cancel(client: stripe.StripeClient, identifier: str) -> Any:
        return await client.v1.billing.meter_event_adjustments.create_async(
            {"event_name": "api_request", "type": "cancel", "cancel": {"identifier": identifier}}
        )

    async with sdk(double) as client:
        await send(client, customer, "1", identifier="a", timestamp=NOW)
        await send(client, customer, "2", identifier="b", timestamp=NOW)
        adjustment = await cancel(client, "a")
        assert adjustment.cancel.identifier == "a"
        assert double.total("api_request", customer) == 2
        for identifier in ("a", "unknown"):
            with pytest.raises(stripe.InvalidRequestError):
                await cancel(client, identifier)
        with pytest.raises(stripe.InvalidRequestError, match="already exists"):
            await send(client, customer, "1", identifier="a", key="k", timestamp=NOW)
        double.clock.advance(DAY)
        with pytest.raises(stripe.InvalidRequestError):
            await cancel(client, "b")
    assert double.total("api_request", customer) == 2
