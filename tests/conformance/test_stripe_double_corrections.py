"""Stripe, what makes its totals differ from what was sent: taken back, lost, sent by others. And reads."""

from decimal import Decimal
from typing import Any

import pytest
import stripe
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import Fault, ManualClock, StripeDouble

DAY = 86_400
NOW = 1_790_035_200  # a midnight


@pytest.fixture
async def double() -> Any:
    """A double with one meter, and a clock that stands still."""
    async with StripeDouble(clock=ManualClock(NOW)) as running:
        running.add_meter("api_request")
        yield running


@pytest.fixture
def customer(double: StripeDouble) -> str:
    """One customer."""
    return double.add_customer()


async def cancel(
    client: stripe.StripeClient, identifier: str, *, key: str | None = None, event_name: str = "api_request"
) -> Any:
    """Take one event back."""
    return await client.v1.billing.meter_event_adjustments.create_async(
        {"event_name": event_name, "type": "cancel", "cancel": {"identifier": identifier}},
        {"idempotency_key": key} if key else {},
    )


async def summary(double: StripeDouble, client: stripe.StripeClient, customer: str) -> float:
    """What the day's summary shows."""
    meter = double.account().meters.all[0].id
    bounds: Any = {"customer": customer, "start_time": NOW, "end_time": NOW + DAY}
    (window,) = (await client.v1.billing.meters.event_summaries.list_async(meter, bounds)).data
    return window.aggregated_value


async def test_a_cancelled_event_is_in_no_total_and_no_summary(double: StripeDouble, customer: str) -> None:
    """A cancellation is answered with its object, and what it took back counts nowhere any more."""
    async with sdk(double) as client:
        await send(client, customer, "1", identifier="a", timestamp=NOW)
        await send(client, customer, "2", identifier="b", timestamp=NOW)
        assert await summary(double, client, customer) == 3
        answer = await cancel(client, "a")
        assert answer.to_dict() == {
            "object": "billing.meter_event_adjustment",
            "cancel": {"identifier": "a"},
            "event_name": "api_request",
            "livemode": False,
            "status": "complete",
            "type": "cancel",
        }
        assert await summary(double, client, customer) == 2
    assert double.total("api_request", customer) == 2
    assert [event.identifier for event in double.cancelled] == ["a"]
    assert [event.identifier for event in double.accepted] == ["a", "b"]


async def test_a_cancellation_may_be_pending(double: StripeDouble, customer: str) -> None:
    """The status is a setting; summaries miss a cancelled event only after their lag."""
    double.settings.adjustment_status = "pending"
    double.settings.summary_lag = 60
    async with sdk(double) as client:
        await send(client, customer, "3", identifier="a", timestamp=NOW)
        assert await summary(double, client, customer) == 0
        double.clock.advance(60)
        assert await summary(double, client, customer) == 3
        assert (await cancel(client, "a")).status == "pending"
        assert await summary(double, client, customer) == 3
        double.clock.advance(60)
        assert await summary(double, client, customer) == 0


async def test_a_cancellation_is_replayed_by_its_key(double: StripeDouble, customer: str) -> None:
    """The same key replays the first answer, another key is told that the event was cancelled before."""
    async with sdk(double) as client:
        await send(client, customer, identifier="a", timestamp=NOW)
        await cancel(client, "a", key="c1")
        again = await cancel(client, "a", key="c1")
        assert again.last_response.headers["Idempotent-Replayed"] == "true"
        with pytest.raises(stripe.InvalidRequestError, match="cancelled before"):
            await cancel(client, "a", key="c2")
        with pytest.raises(stripe.IdempotencyError):
            await cancel(client, "b", key="c1")
    assert double.total("api_request", customer) == 0


async def test_a_lost_answer_of_a_cancellation_can_be_asked_again(double: StripeDouble, customer: str) -> None:
    """When the connection broke after commit, the same key gets the answer."""
    double.fault("/v1/billing/meter_event_adjustments", Fault.RESET_AFTER)
    async with sdk(double) as client:
        await send(client, customer, identifier="a", timestamp=NOW)
        with pytest.raises(stripe.APIConnectionError):
            await cancel(client, "a", key="c1")
        assert (await cancel(client, "a", key="c1")).status == "complete"


async def test_what_cannot_be_cancelled_is_refused(double: StripeDouble, customer: str) -> None:
    """Unknown, rejected, foreign to the event name, or a day old: nothing is cancelled, and the param is named."""
    double.add_meter("tokens")
    async with sdk(double) as client:
        await send(client, customer, "5", identifier="kept", timestamp=NOW)
        double.reject("api_request", "meter_event_invalid_value")
        await send(client, customer, identifier="rejected", timestamp=NOW)
        for identifier, event_name in (("unknown", "api_request"), ("rejected", "api_request"), ("kept", "tokens")):
            with pytest.raises(stripe.InvalidRequestError) as caught:
                await cancel(client, identifier, event_name=event_name)
            assert (caught.value.http_status, caught.value.param) == (400, "cancel[identifier]")
        double.clock.advance(DAY)
        with pytest.raises(stripe.InvalidRequestError, match="24 hours"):
            await cancel(client, "kept")
    assert double.total("api_request", customer) == 5


async def test_a_cancellation_is_possible_until_the_day_is_over(double: StripeDouble, customer: str) -> None:
    """One second before 24 hours after its receipt, an event can still be taken back, whatever its timestamp."""
    async with sdk(double) as client:
        await send(client, customer, identifier="a", timestamp=NOW - 20 * DAY)
        double.clock.advance(DAY - 1)
        await cancel(client, "a")
    assert double.total("api_request", customer) == 0


async def test_a_cancellation_reaches_its_own_account_only(double: StripeDouble, customer: str) -> None:
    """The same identifier in a connected account is another event."""
    double.add_meter("api_request", account="acct_1")
    connected = double.add_customer(account="acct_1")
    async with sdk(double) as own, sdk(double, account="acct_1") as other:
        await send(own, customer, "1", identifier="same", timestamp=NOW)
        await send(other, connected, "2", identifier="same", timestamp=NOW)
        await cancel(other, "same")
        await send(own, customer, "4", identifier="mine", timestamp=NOW)
        with pytest.raises(stripe.InvalidRequestError):
            await cancel(other, "mine")
    assert double.total("api_request", customer) == 5
    assert double.total("api_request", connected, account="acct_1") == 0


async def test_stripe_can_lose_what_it_accepted(double: StripeDouble, customer: str) -> None:
    """The oldest events that fit are in no total and no summary any more, but still known by their identifiers."""
    other = double.add_customer()
    async with sdk(double) as client:
        for number in range(5):
            await send(
                client, other if number == 0 else customer, str(10**number), identifier=str(number), timestamp=NOW
            )
        assert [event.identifier for event in double.lose("api_request", n=2, customer=customer)] == ["1", "2"]
        assert [event.identifier for event in double.lose(identifier="4")] == ["4"]
        assert await summary(double, client, customer) == 1_000
        with pytest.raises(stripe.InvalidRequestError, match="already exists"):
            await send(client, customer, identifier="1", key="again", timestamp=NOW)
    assert (double.total("api_request", customer), double.total("api_request", other)) == (1_000, 1)
    assert [event.identifier for event in double.lost] == ["1", "2", "4"]
    assert len(double.accepted) == 5
    with pytest.raises(ValueError, match="only 1"):
        double.lose("api_request", n=2, customer=customer)
    assert double.total("api_request", customer) == 1_000


async def test_stripe_can_forget_the_identifier_too(double: StripeDouble, customer: str) -> None:
    """Where a test says so, what was lost can be sent again under its own identifier."""
    async with sdk(double) as client:
        await send(client, customer, "3", identifier="a", key="k1", timestamp=NOW)
        double.lose("api_request", forget=True)
        await send(client, customer, "3", identifier="a", key="k2", timestamp=NOW)
    assert double.total("api_request", customer) == 3


async def test_another_program_can_send_events(double: StripeDouble, customer: str) -> None:
    """A foreign event counts like any other and is marked; what Stripe would refuse is a plain error."""
    event = double.add_foreign("api_request", customer, "2.5", timestamp=NOW + 60)
    async with sdk(double) as client:
        await send(client, customer, "1", timestamp=NOW)
        assert await summary(double, client, customer) == 3.5
    assert double.total("api_request", customer) == Decimal("3.5")
    assert double.foreign == [event]
    assert [each is event for each in double.accepted] == [True, False]
    for event_name, who, value in (
        ("other", customer, "1"),
        ("api_request", "cus_x", "1"),
        ("api_request", customer, ""),
    ):
        with pytest.raises(ValueError, match="would not take"):
            double.add_foreign(event_name, who, value)


async def test_reads_are_counted_per_account(double: StripeDouble, customer: str) -> None:
    """Every GET that was let through is a read of its account and path; POSTs, refusals and outages are none."""
    double.fault("/v1/customers", Fault.UNAVAILABLE, method="GET")
    async with sdk(double) as client, sdk(double, account="acct_1") as other:
        with pytest.raises(stripe.APIError):
            await client.v1.customers.list_async({})
        await send(client, customer, timestamp=NOW)
        for _ in range(3):
            await summary(double, client, customer)
        await client.v1.customers.retrieve_async(customer)
        await client.v2.core.events.list_async()
        await other.v1.customers.list_async({})
    assert double.reads() == 5
    assert double.reads("/v1/billing/meters/*/event_summaries") == 3
    assert double.reads("/v1/customers") == double.reads("/v1/customers/*") == 1
    assert (double.reads(account="acct_1"), double.reads("/v2")) == (1, 1)
