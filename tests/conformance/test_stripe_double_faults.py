"""Faults of the double, as the real client meets them."""

import asyncio
from typing import Any

import pytest
import stripe
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import Fault, StripeDouble

EVENTS = "/v1/billing/meter_events"


@pytest.fixture
async def double() -> Any:
    """A double with one meter."""
    async with StripeDouble() as running:
        running.add_meter("api_request")
        yield running


@pytest.fixture
def customer(double: StripeDouble) -> str:
    """One customer."""
    return double.add_customer()


async def test_a_reset_after_processing_is_replayed_and_counted_once(double: StripeDouble, customer: str) -> None:
    """The connection breaks after commit: the same call again is replayed, and the event counts once."""
    double.fault(EVENTS, Fault.RESET_AFTER)
    async with sdk(double) as client:
        with pytest.raises(stripe.APIConnectionError):
            await send(client, customer, timestamp=None)
        assert len(double.accepted) == 1
        again = await send(client, customer, timestamp=double.accepted[0].timestamp)
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert double.total("api_request", customer) == 1
    assert [call.status for call in double.calls] == [0, 200]


async def test_a_reset_before_processing_does_nothing(double: StripeDouble, customer: str) -> None:
    """The connection breaks before anything was done: the same call again is the first."""
    double.fault(EVENTS, Fault.RESET_BEFORE)
    async with sdk(double) as client:
        with pytest.raises(stripe.APIConnectionError):
            await send(client, customer)
        assert double.accepted == []
        answer = await send(client, customer)
    assert "Idempotent-Replayed" not in answer.last_response.headers
    assert double.total("api_request", customer) == 1


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        (Fault.ERROR_BEFORE, 500, stripe.APIError),
        (Fault.UNAVAILABLE, 503, stripe.APIError),
        (Fault.RATE_LIMITED, 429, stripe.RateLimitError),
    ],
)
async def test_a_scripted_status_comes_as_often_as_asked(
    double: StripeDouble, customer: str, fault: Fault, status: int, error: type[stripe.StripeError]
) -> None:
    """A rule strikes `times` calls, is counted, and then the call gets through."""
    rule = double.fault(EVENTS, fault, times=2)
    async with sdk(double) as client:
        for _ in range(2):
            with pytest.raises(error) as caught:
                await send(client, customer)
            assert caught.value.http_status == status
        await send(client, customer)
    assert rule.fired == 2
    if fault is Fault.RATE_LIMITED:
        assert (caught.value.headers or {})["Stripe-Rate-Limited-Reason"] == "global-rate"


async def test_a_body_that_is_no_json_comes_after_commit(double: StripeDouble, customer: str) -> None:
    """A malformed 200 is an error for the client although the event counts; the resend is replayed whole."""
    double.fault(EVENTS, Fault.MALFORMED)
    async with sdk(double) as client:
        with pytest.raises(stripe.APIError):
            await send(client, customer, timestamp=None)
        assert len(double.accepted) == 1
        again = await send(client, customer, timestamp=double.accepted[0].timestamp)
    assert again.identifier == "id-1"
    assert len(double.accepted) == 1


async def test_a_slow_answer_outlasts_the_client(double: StripeDouble, customer: str) -> None:
    """Slow after commit: the client gives up, the event counts, the resend is replayed at once."""
    double.fault(EVENTS, Fault.SLOW_AFTER, seconds=5)
    async with sdk(double, patience=0.2) as client:
        with pytest.raises(stripe.APIConnectionError):
            await send(client, customer, timestamp=None)
        assert len(double.accepted) == 1
        await send(client, customer, timestamp=double.accepted[0].timestamp)
    assert len(double.accepted) == 1


async def test_a_slow_execution_commits_after_the_client_has_gone(double: StripeDouble, customer: str) -> None:
    """Slow before commit: nothing has happened when the client gives up, and it happens later all the same."""
    double.fault(EVENTS, Fault.SLOW_BEFORE, seconds=0.5)
    async with sdk(double, patience=0.2) as client:
        with pytest.raises(stripe.APIConnectionError):
            await send(client, customer)
        assert double.accepted == []
    await double.wait_until(lambda: len(double.accepted) == 1)


@pytest.mark.parametrize(("fault", "counted"), [(Fault.HANG, 0), (Fault.HANG_AFTER, 1)])
async def test_a_hanging_call_ends_when_the_double_does(fault: Fault, counted: int) -> None:
    """A call that hangs is never answered, and does not keep the double from stopping."""
    async with StripeDouble() as double:
        double.add_meter("api_request")
        customer = double.add_customer()
        rule = double.fault(EVENTS, fault)
        async with sdk(double) as client:
            call = asyncio.create_task(send(client, customer))
            await double.wait_until(lambda: rule.fired == 1 and len(double.accepted) == counted)
            async with asyncio.timeout(5):
                await double.__aexit__(None, None, None)
            with pytest.raises(stripe.APIConnectionError):
                await call
    assert len(double.accepted) == counted


async def test_an_outage_lasts_until_it_ends(double: StripeDouble, customer: str) -> None:
    """In an outage every path is unreachable, and nothing is done."""
    async with sdk(double) as client:
        with double.outage():
            with pytest.raises(stripe.APIConnectionError):
                await send(client, customer)
            with pytest.raises(stripe.APIConnectionError):
                await client.v1.customers.list_async({})
        await send(client, customer)
    assert len(double.accepted) == 1


async def test_faults_strike_by_path_and_method(double: StripeDouble, customer: str) -> None:
    """A rule strikes the paths below its own only, and one method if it names one; clearing ends it."""
    double.fault("/v1/customers", Fault.UNAVAILABLE, times=None, method="GET")
    async with sdk(double) as client:
        await send(client, customer)
        await client.v1.customers.create_async({"name": "A"})
        with pytest.raises(stripe.APIError):
            await client.v1.customers.retrieve_async(customer)
        double.clear_faults()
        await client.v1.customers.retrieve_async(customer)


async def test_chaos_is_the_same_for_the_same_seed() -> None:
    """Random faults follow their seed, so that a run can be repeated."""

    async def run(seed: int) -> list[int]:
        async with StripeDouble() as double, sdk(double) as client:
            double.fault("/v1/customers", Fault.UNAVAILABLE, times=None, probability=0.5, seed=seed)
            for _ in range(40):
                try:
                    await client.v1.customers.list_async({})
                except stripe.APIError:
                    continue
            return [call.status for call in double.calls]

    first = await run(7)
    assert first == await run(7)
    assert first != await run(8)
    assert set(first) == {200, 503}


async def test_waiting_ends_with_the_condition_or_the_deadline(double: StripeDouble, customer: str) -> None:
    """`wait_until` returns once the condition holds, and says what it saw when it never does."""
    async with sdk(double) as client:
        waiting = asyncio.create_task(double.wait_until(lambda: len(double.accepted) == 1))
        await send(client, customer)
        await asyncio.wait_for(waiting, 1)
    with pytest.raises(TimeoutError, match="1 events accepted"):
        await double.wait_until(lambda: False, timeout=0.1)
