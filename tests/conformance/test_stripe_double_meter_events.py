"""Stripe, `POST /v1/billing/meter_events`: what is taken and what is refused, seen through the real client."""

import base64
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
import stripe
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import ManualClock, Settings, StripeDouble

DAY = 86_400
NOW = 1_790_000_000


@pytest.fixture
async def double() -> Any:
    """A double with one meter, and a clock that stands still."""
    async with StripeDouble(clock=ManualClock(NOW)) as running:
        running.add_meter("api_request")
        yield running


@pytest.fixture
def customer(double: StripeDouble) -> str:
    """One customer."""
    return double.add_customer({"account_id": "acme"})


async def refused(double: StripeDouble, customer: str, **event: Any) -> stripe.InvalidRequestError:
    """The refusal that an event meets; nothing may have been counted."""
    async with sdk(double) as client:
        with pytest.raises(stripe.InvalidRequestError) as caught:
            await send(client, customer, **{"timestamp": NOW, **event})
    assert caught.value.http_status == 400
    assert double.accepted == []
    return caught.value


async def test_an_accepted_event_is_echoed_and_kept_exactly(double: StripeDouble, customer: str) -> None:
    """An accepted event is answered with the event object, and all that was sent can be read back."""
    async with sdk(double) as client:
        answer = await send(client, customer, "12.50", identifier="e1", key="k1", timestamp=NOW - 60, model="large")
    payload = {"stripe_customer_id": customer, "value": "12.50", "model": "large"}
    assert answer.to_dict() == {
        "object": "billing.meter_event",
        "created": NOW,
        "event_name": "api_request",
        "identifier": "e1",
        "livemode": False,
        "payload": payload,
        "timestamp": NOW - 60,
    }
    (event,) = double.accepted
    assert (event.identifier, event.event_name, event.customer) == ("e1", "api_request", customer)
    assert (event.value, event.timestamp, event.payload) == (Decimal("12.50"), NOW - 60, payload)
    assert (event.idempotency_key, event.account, event.livemode) == ("k1", None, False)
    assert double.total("api_request", customer) == Decimal("12.50")


async def test_every_answer_names_its_request_and_version(double: StripeDouble, customer: str) -> None:
    """`Request-Id` stands on every answer, and the version of the client is echoed."""
    async with sdk(double) as client:
        first = await send(client, customer, identifier="a", timestamp=NOW)
        second = await send(client, customer, identifier="b", timestamp=NOW)
    headers = [answer.last_response.headers for answer in (first, second)]
    assert len({header["Request-Id"] for header in headers}) == 2
    assert all(header["Stripe-Version"] == stripe.api_version for header in headers)
    assert [call.request_id for call in double.calls] == [header["Request-Id"] for header in headers]


@pytest.mark.parametrize("brackets", ["[{}]", "%5B{}%5D"])
async def test_brackets_may_be_plain_or_encoded(double: StripeDouble, customer: str, brackets: str) -> None:
    """The payload's keys are read with plain and with percent-encoded brackets."""
    body = "event_name=api_request&" + "&".join(
        f"payload{brackets.format(key)}={value}" for key, value in (("stripe_customer_id", customer), ("value", 3))
    )
    headers = {"Authorization": f"Bearer {double.api_key}", "Content-Type": "application/x-www-form-urlencoded"}
    path = f"{double.url}/v1/billing/meter_events"
    async with aiohttp.ClientSession() as session, session.post(path, data=body, headers=headers) as answer:
        assert answer.status == 200
    assert double.total("api_request", customer) == 3


async def test_time_and_identifier_have_defaults(double: StripeDouble, customer: str) -> None:
    """Without them, an event gets the time of receipt and an identifier of its own."""
    async with sdk(double) as client:
        for _ in range(2):
            await client.v1.billing.meter_events.create_async(
                {"event_name": "api_request", "payload": {"stripe_customer_id": customer, "value": "1"}}
            )
    assert [event.timestamp for event in double.accepted] == [NOW, NOW]
    assert len({event.identifier for event in double.accepted}) == 2


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"colour": "red"}, "parameter_unknown", "colour"),
        ({"event_name": None}, "parameter_missing", "event_name"),
        ({"payload": None}, "parameter_missing", "payload"),
        ({"event_name": "n" * 101}, None, "event_name"),
        ({"identifier": "i" * 101}, None, "identifier"),
        ({"payload": {"stripe_customer_id": "c", "value": "1" * 101}}, None, "payload[value]"),
        ({"timestamp": "2026-11-22T00:00:00Z"}, "parameter_invalid_integer", "timestamp"),
        ({"event_name": ""}, "parameter_invalid_empty", "event_name"),
    ],
)
async def test_bad_parameters_are_named(
    double: StripeDouble, customer: str, params: dict[str, Any], code: str | None, param: str
) -> None:
    """Unknown, missing, over-long and malformed parameters are a 400 that names them."""
    good = {"event_name": "api_request", "payload": {"stripe_customer_id": customer, "value": "1"}}
    merged: Any = {name: value for name, value in {**good, **params}.items() if value is not None}
    async with sdk(double) as client:
        with pytest.raises(stripe.InvalidRequestError) as caught:
            await client.v1.billing.meter_events.create_async(merged)
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (400, code, param)
    assert double.accepted == []


async def test_the_longest_identifier_is_taken(double: StripeDouble, customer: str) -> None:
    """An identifier may have 100 characters."""
    async with sdk(double) as client:
        await send(client, customer, identifier="i" * 100, timestamp=NOW)
    assert double.accepted[0].identifier == "i" * 100


async def test_an_unknown_meter_is_refused_by_text(double: StripeDouble, customer: str) -> None:
    """An event name without a meter is refused by text, without a code."""
    error = await refused(double, customer, event_name="other")
    assert "No active meter found" in str(error.user_message)
    assert error.code is None


async def test_an_inactive_meter_is_refused_until_it_is_active(double: StripeDouble, customer: str) -> None:
    """A deactivated meter takes nothing; reactivated, it takes the same event under a new key."""
    double.deactivate_meter("api_request")
    error = await refused(double, customer, identifier="e1", key="k1")
    assert "No active meter found" in str(error.user_message)
    double.reactivate_meter("api_request")
    async with sdk(double) as client:
        await send(client, customer, identifier="e1", key="k2", timestamp=NOW)
    assert len(double.accepted) == 1


async def test_unknown_and_deleted_customers_are_refused(double: StripeDouble, customer: str) -> None:
    """A customer id that does not exist, or no longer, is refused with its id in the text."""
    assert (await refused(double, "cus_x")).user_message == "No such customer: 'cus_x'"
    double.delete_customer(customer)
    assert (await refused(double, customer, key="k2")).user_message == f"No such customer: '{customer}'"


async def test_the_customer_key_of_the_meter_decides(double: StripeDouble, customer: str) -> None:
    """A meter with mappings of its own reads its own payload keys and misses them by name."""
    double.add_meter("tokens", customer_key="who", value_key="amount")
    error = await refused(double, customer, event_name="tokens")
    assert error.user_message == "Customer mapping key who not found in payload."
    async with sdk(double) as client:
        await client.v1.billing.meter_events.create_async(
            {"event_name": "tokens", "payload": {"who": customer, "amount": "7"}}
        )
    assert double.total("tokens", customer) == 7


@pytest.mark.parametrize("value", ["", "abc", "1e5", "1E+2", "+1", " 1", "1.", ".5", "NaN", "٣", "1,5"])
async def test_a_value_that_is_no_plain_number_is_refused(double: StripeDouble, customer: str, value: str) -> None:
    """Only plain digits with at most one point and a leading minus are a value."""
    await refused(double, customer, value=value)


@pytest.mark.parametrize("value", ["1234567890123456", "0.1234567890123456", "-1.234567890123456"])
async def test_sixteen_digits_are_refused(double: StripeDouble, customer: str, value: str) -> None:
    """A value has at most 15 significant digits, and the text names the limit and the value."""
    error = await refused(double, customer, value=value)
    assert "15" in str(error.user_message)
    assert value in str(error.user_message)


@pytest.mark.parametrize("value", ["0", "-3", "0.000000000000001", "123456789012345", "0.100000", "007"])
async def test_fifteen_digits_of_either_sign_are_taken(double: StripeDouble, customer: str, value: str) -> None:
    """Zero, negative and decimal values of up to 15 significant digits are added exactly."""
    async with sdk(double) as client:
        await send(client, customer, value, timestamp=NOW)
    assert double.total("api_request", customer) == Decimal(value)


@pytest.mark.parametrize("timestamp", [NOW - 35 * DAY, NOW + 300])
async def test_the_edges_of_the_time_window_are_inside(double: StripeDouble, customer: str, timestamp: int) -> None:
    """35 days back and 5 minutes ahead are still taken."""
    async with sdk(double) as client:
        await send(client, customer, timestamp=timestamp)
    assert double.accepted[0].timestamp == timestamp


async def test_too_old_and_too_new_are_refused_by_text(double: StripeDouble, customer: str) -> None:
    """One second outside of the window is refused with the text that was seen at Stripe."""
    old = await refused(double, customer, timestamp=NOW - 35 * DAY - 1)
    assert old.user_message == (
        "The event timestamp cannot be more than 35 days in past. "
        f"Expected a timestamp greater than or equal to {NOW - 35 * DAY}."
    )
    new = await refused(double, customer, timestamp=NOW + 301, identifier="id-2")
    assert str(new.user_message).startswith("The event timestamp cannot be in future")


async def test_the_window_moves_with_the_clock(double: StripeDouble, customer: str) -> None:
    """What is too old is judged by the double's clock."""
    double.clock.advance(36 * DAY)
    await refused(double, customer, timestamp=NOW)


async def test_a_known_identifier_is_refused_by_text_alone(double: StripeDouble, customer: str) -> None:
    """A duplicate is a 400 without a code that says not to retry, under a new idempotency key."""
    async with sdk(double) as client:
        await send(client, customer, identifier="e1", key="k1", timestamp=NOW)
        with pytest.raises(stripe.InvalidRequestError) as caught:
            await send(client, customer, "5", identifier="e1", key="k2", timestamp=NOW)
    assert caught.value.http_status == 400
    assert caught.value.user_message == "An event already exists with identifier e1."
    assert caught.value.code is None
    assert caught.value.headers is not None
    assert caught.value.headers["Stripe-Should-Retry"] == "false"
    assert double.total("api_request", customer) == 1


async def test_duplicates_can_be_swallowed(customer: str, double: StripeDouble) -> None:
    """Where a test wants it, a duplicate is answered with 200 and counts nothing."""
    double.settings.duplicates = "ignore"
    async with sdk(double) as client:
        await send(client, customer, identifier="e1", key="k1", timestamp=NOW)
        await send(client, customer, identifier="e1", key="k2", timestamp=NOW)
    assert double.total("api_request", customer) == 1
    assert [call.status for call in double.calls] == [200, 200]


async def test_a_resend_after_a_day_is_counted_twice(double: StripeDouble, customer: str) -> None:
    """Identifiers and keys are forgotten after 24 hours: the same event sent again is counted again."""
    async with sdk(double) as client:
        await send(client, customer, identifier="e1", timestamp=NOW)
        double.clock.advance(DAY - 1)
        with pytest.raises(stripe.InvalidRequestError):
            await send(client, customer, identifier="e1", key="other", timestamp=NOW)
        double.clock.advance(1)
        await send(client, customer, identifier="e1", timestamp=NOW)
    assert double.total("api_request", customer) == 2
    assert [event.identifier for event in double.accepted] == ["e1", "e1"]


async def test_refused_identifiers_stay_free(double: StripeDouble, customer: str) -> None:
    """An event that was refused does not occupy its identifier."""
    await refused(double, "cus_x", identifier="e1", key="k1")
    async with sdk(double) as client:
        await send(client, customer, identifier="e1", key="k2", timestamp=NOW)
    assert len(double.accepted) == 1


async def test_accounts_and_modes_are_kept_apart() -> None:
    """Customers, meters, identifiers and totals of connected accounts and of live mode never mix."""
    keys = ["sk_test_a", "sk_live_a", "rk_test_a"]
    async with StripeDouble(keys, settings=Settings(latency=0)) as double:
        own, connected = double.add_customer(), double.add_customer(account="acct_1")
        double.add_meter("api_request")
        double.add_meter("api_request", account="acct_1")
        async with sdk(double) as client:
            await send(client, own, "1", identifier="same")
            with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
                await send(client, connected, identifier="other")
        async with sdk(double, account="acct_1") as client:
            await send(client, connected, "2", identifier="same")
        async with sdk(double, api_key="sk_live_a") as client:
            with pytest.raises(stripe.InvalidRequestError, match="No active meter"):
                await send(client, own, identifier="same")
        async with sdk(double, api_key="rk_test_a") as client:
            await send(client, own, "3", identifier="restricted")
        assert double.total("api_request", own) == 4
        assert double.total("api_request", connected, account="acct_1") == 2
        assert [event.account for event in double.accepted] == [None, "acct_1", None]


@pytest.mark.parametrize("key", ["sk_test_unknown", "nonsense"])
async def test_an_unknown_key_is_401(double: StripeDouble, customer: str, key: str) -> None:
    """A key that the double was not given is refused, and the answer does not repeat it."""
    async with sdk(double, api_key=key) as client:
        with pytest.raises(stripe.AuthenticationError) as caught:
            await send(client, customer, timestamp=NOW)
    assert caught.value.http_status == 401
    assert "unknown" not in str(caught.value)
    assert double.accepted == []


async def test_no_key_is_401_and_no_path_is_404(double: StripeDouble) -> None:
    """Missing credentials and unknown paths are answered in Stripe's error form."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{double.url}/v1/customers") as answer:
            assert (answer.status, (await answer.json())["error"]["type"]) == (401, "invalid_request_error")
        headers = {"Authorization": f"Bearer {double.api_key}"}
        async with session.get(f"{double.url}/v1/nothing/here", headers=headers) as answer:
            assert (answer.status, (await answer.json())["error"]["type"]) == (404, "invalid_request_error")
        login = {"Authorization": "Basic " + base64.b64encode(f"{double.api_key}:".encode()).decode()}
        async with session.get(f"{double.url}/v1/customers", headers=login) as answer:
            assert answer.status == 200
