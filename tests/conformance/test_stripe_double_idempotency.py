"""Stripe, idempotent requests: what a key replays, what it refuses, and what it forgets."""

import asyncio
from typing import Any

import pytest
import stripe
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import Fault, ManualClock, StripeDouble

DAY = 86_400
NOW = 1_790_000_000
EVENTS = "/v1/billing/meter_events"


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


async def test_the_same_key_replays_the_first_answer(double: StripeDouble, customer: str) -> None:
    """The same call again is answered like the first, says so in a header, and counts once."""
    async with sdk(double) as client:
        first = await send(client, customer, timestamp=NOW)
        double.clock.advance(DAY - 1)
        second = await send(client, customer, timestamp=NOW)
    assert second.to_dict() == first.to_dict()
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert double.total("api_request", customer) == 1


async def test_a_key_with_other_parameters_is_refused(double: StripeDouble, customer: str) -> None:
    """A key is bound to its parameters: a changed value is a 400 `idempotency_error`."""
    async with sdk(double) as client:
        await send(client, customer, "1", timestamp=NOW)
        with pytest.raises(stripe.IdempotencyError) as caught:
            await send(client, customer, "2", timestamp=NOW)
    assert caught.value.http_status == 400
    assert double.total("api_request", customer) == 1


async def test_a_key_in_flight_is_409(double: StripeDouble, customer: str) -> None:
    """While the first call is worked on, the same key is a conflict; afterwards it is replayed."""
    slow = double.fault(EVENTS, Fault.SLOW_BEFORE, seconds=0.5)
    async with sdk(double) as client:
        first = asyncio.create_task(send(client, customer, timestamp=NOW))
        await double.wait_until(lambda: slow.fired == 1)
        with pytest.raises(stripe.APIError) as caught:
            await send(client, customer, timestamp=NOW)
        await first
        again = await send(client, customer, timestamp=NOW)
    assert caught.value.http_status == 409
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(double.accepted) == 1
    assert double.violations == []


async def test_a_key_is_forgotten_after_a_day(double: StripeDouble) -> None:
    """After 24 hours the same key executes again."""
    async with sdk(double) as client:
        made = [await client.v1.customers.create_async({"name": "A"}, {"idempotency_key": "k"})]
        made.append(await client.v1.customers.create_async({"name": "A"}, {"idempotency_key": "k"}))
        double.clock.advance(DAY)
        made.append(await client.v1.customers.create_async({"name": "A"}, {"idempotency_key": "k"}))
    assert made[0].id == made[1].id != made[2].id


async def test_keys_of_two_accounts_are_two_keys(double: StripeDouble) -> None:
    """The same key means nothing in another account."""
    async with sdk(double) as mine, sdk(double, account="acct_1") as theirs:
        first = await mine.v1.customers.create_async({"name": "A"}, {"idempotency_key": "k"})
        second = await theirs.v1.customers.create_async({"name": "B"}, {"idempotency_key": "k"})
    assert first.id != second.id


async def test_a_500_after_commit_is_replayed_and_a_new_key_is_a_duplicate(
    double: StripeDouble, customer: str
) -> None:
    """A stored 500 comes again under its key; with a new key the identifier shows that the event was counted."""
    double.fault(EVENTS, Fault.ERROR_AFTER)
    async with sdk(double) as client:
        for replayed in (None, "true"):
            with pytest.raises(stripe.APIError) as caught:
                await send(client, customer, identifier="e", key="k1", timestamp=NOW)
            assert caught.value.http_status == 500
            assert (caught.value.headers or {}).get("Idempotent-Replayed") == replayed
        with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier e"):
            await send(client, customer, identifier="e", key="k2", timestamp=NOW)
    assert double.total("api_request", customer) == 1


async def test_a_500_before_commit_is_replayed_until_the_key_changes(double: StripeDouble, customer: str) -> None:
    """A stored 500 without effect keeps the event out for as long as the key stays the same."""
    double.fault(EVENTS, Fault.ERROR_STORED)
    async with sdk(double) as client:
        for _ in range(3):
            with pytest.raises(stripe.APIError):
                await send(client, customer, identifier="e", key="k1", timestamp=NOW)
        assert double.accepted == []
        await send(client, customer, identifier="e", key="k2", timestamp=NOW)
    assert double.total("api_request", customer) == 1


@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.UNAVAILABLE, Fault.RATE_LIMITED, Fault.LOCK_TIMEOUT])
async def test_what_was_not_executed_is_not_stored(double: StripeDouble, customer: str, fault: Fault) -> None:
    """503, 429 and a 500 before execution leave the key free: the same call then succeeds."""
    double.fault(EVENTS, fault)
    async with sdk(double) as client:
        with pytest.raises(stripe.StripeError):
            await send(client, customer, timestamp=NOW)
        answer = await send(client, customer, timestamp=NOW)
    assert "Idempotent-Replayed" not in answer.last_response.headers
    assert double.total("api_request", customer) == 1


async def test_validation_failures_are_not_stored(double: StripeDouble, customer: str) -> None:
    """A parameter that fails leaves the key free, for other parameters too."""
    async with sdk(double) as client:
        with pytest.raises(stripe.InvalidRequestError):
            await send(client, customer, "many", timestamp=NOW)
        await send(client, customer, "1", timestamp=NOW)
    assert double.total("api_request", customer) == 1


@pytest.mark.parametrize("stored", [True, False])
async def test_refusals_by_state_are_stored_unless_switched_off(
    double: StripeDouble, customer: str, stored: bool
) -> None:
    """A missing meter is replayed under the same key even when the meter exists by now; a setting turns it off."""
    double.settings.store_refusals = stored
    async with sdk(double) as client:
        with pytest.raises(stripe.InvalidRequestError):
            await send(client, customer, event_name="late", timestamp=NOW)
        double.add_meter("late")
        if stored:
            with pytest.raises(stripe.InvalidRequestError, match="No active meter found"):
                await send(client, customer, event_name="late", timestamp=NOW)
            await send(client, customer, event_name="late", key="new", timestamp=NOW)
        else:
            await send(client, customer, event_name="late", timestamp=NOW)
    assert double.total("late", customer) == 1


async def test_a_key_has_at_most_255_characters(double: StripeDouble, customer: str) -> None:
    """255 characters are taken, 256 are refused."""
    async with sdk(double) as client:
        await send(client, customer, key="k" * 255, timestamp=NOW)
        with pytest.raises(stripe.InvalidRequestError):
            await send(client, customer, key="k" * 256, timestamp=NOW)
