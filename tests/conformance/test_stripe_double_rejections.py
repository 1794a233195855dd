"""Stripe, meter events that are answered 200 and do not count: which, under which code, and what is kept of them."""

from typing import Any

import pytest
import stripe
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import ManualClock, StripeDouble

DAY = 86_400
NOW = 1_790_000_000
EVENTS = "/v1/billing/meter_events"


@pytest.fixture
async def double() -> Any:
    """A double with one meter, and a clock that stands still at the beginning of a report's window."""
    async with StripeDouble(clock=ManualClock(NOW)) as running:
        running.add_meter("api_request")
        yield running


@pytest.fixture
def customer(double: StripeDouble) -> str:
    """One customer."""
    return double.add_customer({"account_id": "acme"})


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("no_meter", {"event_name": "other"}),
        ("meter_event_customer_not_found", {"customer": "cus_x"}),
        ("meter_event_no_customer_defined", {"customer": ""}),
        ("meter_event_invalid_value", {"value": "1e5"}),
        ("meter_event_value_too_many_digits", {"value": "1234567890123456"}),
        ("timestamp_too_far_in_past", {"timestamp": NOW - 35 * DAY - 1}),
        ("timestamp_in_future", {"timestamp": NOW + 301}),
    ],
)
async def test_what_fails_is_answered_200_and_counts_nowhere(
    double: StripeDouble, customer: str, code: str, change: dict[str, Any]
) -> None:
    """Under asynchronous validation the answer is that of a good event; the code is in the report alone."""
    double.settings.validation = "asynchronous"
    async with sdk(double) as client:
        answer = await send(client, **{"customer": customer, "timestamp": NOW, "identifier": "e1", **change})
    assert (answer.object, answer.identifier) == ("billing.meter_event", "e1")
    assert double.accepted == []
    assert double.total("api_request", customer) == 0
    (event,) = double.rejected
    assert (event.code, event.identifier, event.idempotency_key, event.received) == (code, "e1", "e1", NOW)
    double.clock.advance(10)
    (report,) = double.reports()
    assert report["data"]["reason"]["error_types"][0]["code"] == code


async def test_a_missing_value_and_an_archived_meter_have_codes(double: StripeDouble, customer: str) -> None:
    """An event without its value and an event of an inactive meter are rejected by their own codes."""
    double.settings.validation = "asynchronous"
    async with sdk(double) as client:
        await client.v1.billing.meter_events.create_async(
            {"event_name": "api_request", "payload": {"stripe_customer_id": customer}}
        )
        double.deactivate_meter("api_request")
        await send(client, customer, timestamp=NOW)
    assert [event.code for event in double.rejected] == ["meter_event_value_not_found", "archived_meter"]
    assert all(event.meter_id == double.account().meters.all[0].id for event in double.rejected)


async def test_good_events_count_and_parameters_are_refused_at_once(double: StripeDouble, customer: str) -> None:
    """Asynchronous validation changes nothing for good events, unknown parameters and duplicates."""
    double.settings.validation = "asynchronous"
    async with sdk(double) as client:
        await send(client, customer, "2", identifier="e1", timestamp=NOW)
        with pytest.raises(stripe.InvalidRequestError, match="already exists"):
            await send(client, "cus_x", identifier="e1", key="k2", timestamp=NOW)
        with pytest.raises(stripe.InvalidRequestError) as caught:
            await send(client, customer, identifier="e2", event_name="", timestamp=NOW)
    assert caught.value.http_status == 400
    assert double.total("api_request", customer) == 2
    assert double.rejected == []


async def test_synchronous_validation_is_the_default(double: StripeDouble) -> None:
    """Nothing is rejected after a 200 unless a test asks for it."""
    async with sdk(double) as client:
        with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
            await send(client, "cus_x", timestamp=NOW)
    assert double.rejected == []


async def test_the_next_good_events_can_be_rejected(double: StripeDouble, customer: str) -> None:
    """A rule strikes as many events as it says, of its event name and customer only."""
    double.add_meter("tokens")
    other = double.add_customer()
    rule = double.reject("api_request", "meter_event_invalid_value", times=2, customer=customer)
    async with sdk(double) as client:
        await send(client, customer, identifier="a", timestamp=NOW, event_name="tokens")
        await send(client, other, identifier="b", timestamp=NOW)
        for identifier in ("c", "d", "e"):
            await send(client, customer, identifier=identifier, timestamp=NOW)
    assert rule.fired == 2
    assert [event.identifier for event in double.rejected] == ["c", "d"]
    assert [event.identifier for event in double.accepted] == ["a", "b", "e"]
    assert double.total("api_request", customer) == 1


async def test_rejections_by_chance_follow_their_seed(double: StripeDouble, customer: str) -> None:
    """The same seed rejects the same events of the same sequence, some but not all of them."""

    async def run() -> list[str]:
        before = len(double.rejected)
        double.clear_rejections()
        double.reject(None, "a_code_of_tomorrow", times=None, probability=0.5, seed=7)
        async with sdk(double) as client:
            for number in range(20):
                await send(client, customer, identifier=f"{before}-{number}", timestamp=NOW)
        return [event.identifier.partition("-")[2] for event in double.rejected[before:]]

    first = await run()
    assert first == await run()
    assert 0 < len(first) < 20
    assert len(double.accepted) == 40 - 2 * len(first)


async def test_a_rejection_can_change_the_account(double: StripeDouble, customer: str) -> None:
    """A real rejection deletes the customer or deactivates the meter, so that the next event meets that too."""
    other = double.add_customer()
    double.reject("api_request", "meter_event_customer_not_found", real=True)
    async with sdk(double) as client:
        await send(client, customer, identifier="a", timestamp=NOW)
        assert (await client.v1.customers.retrieve_async(customer)).deleted
        double.reject("api_request", "archived_meter", real=True)
        await send(client, other, identifier="b", timestamp=NOW)
        with pytest.raises(stripe.InvalidRequestError, match="No active meter"):
            await send(client, other, identifier="c", timestamp=NOW)
    assert [event.code for event in double.rejected] == ["meter_event_customer_not_found", "archived_meter"]
    with pytest.raises(ValueError, match="does not go with"):
        double.reject("api_request", "meter_event_invalid_value", real=True)


async def test_a_rejected_identifier_stays_taken(double: StripeDouble, customer: str) -> None:
    """Sent again under a new key it is a duplicate for 24 hours, although nothing was counted; free after that."""
    double.reject("api_request", "meter_event_invalid_value")
    async with sdk(double) as client:
        await send(client, customer, identifier="e1", key="k1", timestamp=NOW)
        replayed = await send(client, customer, identifier="e1", key="k1", timestamp=NOW)
        assert replayed.last_response.headers["Idempotent-Replayed"] == "true"
        with pytest.raises(stripe.InvalidRequestError, match="already exists"):
            await send(client, customer, identifier="e1", key="k2", timestamp=NOW)
        assert double.total("api_request", customer) == 0
        double.clock.advance(DAY)
        await send(client, customer, identifier="e1", key="k3", timestamp=NOW)
    assert double.total("api_request", customer) == 1
    assert len(double.rejected) == 1


async def test_a_rejected_identifier_can_be_free(double: StripeDouble, customer: str) -> None:
    """Where a test says so, the identifier of a rejected event can be used again at once."""
    double.settings.reserve_rejected = False
    double.reject("api_request", "meter_event_invalid_value")
    async with sdk(double) as client:
        await send(client, customer, identifier="e1", key="k1", timestamp=NOW)
        await send(client, customer, identifier="e1", key="k2", timestamp=NOW)
    assert double.total("api_request", customer) == 1


async def test_rejections_of_a_connected_account_are_its_own(double: StripeDouble, customer: str) -> None:
    """A rule and its reports belong to one account."""
    double.add_meter("api_request", account="acct_1")
    connected = double.add_customer(account="acct_1")
    double.reject("api_request", "meter_event_invalid_value", account="acct_1")
    async with sdk(double) as client:
        await send(client, customer, timestamp=NOW)
    async with sdk(double, account="acct_1") as client:
        await send(client, connected, timestamp=NOW)
    double.clock.advance(10)
    assert [event.account for event in double.accepted] == [None]
    assert [event.account for event in double.rejected] == ["acct_1"]
    assert double.reports() == []
    (report,) = double.reports(account="acct_1")
    assert report["context"] == "acct_1"
