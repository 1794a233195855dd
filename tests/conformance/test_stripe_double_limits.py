"""Stripe, rate limits: one call in flight per customer and meter, and so many a second."""

import asyncio

import pytest
import stripe
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import Fault, RateLimits, Settings, StripeDouble

EVENTS = "/v1/billing/meter_events"


class Seconds:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


async def test_a_second_call_for_one_customer_and_meter_is_refused_and_noted() -> None:
    """Of two calls at once for one customer and meter, one is a 429 `lock_timeout` without a reason, and noted."""
    async with StripeDouble() as double:
        double.add_meter("api_request")
        customer = double.add_customer()
        async with sdk(double) as client:
            answers = await asyncio.gather(
                send(client, customer, identifier="a"),
                send(client, customer, identifier="b"),
                return_exceptions=True,
            )
        (error,) = [answer for answer in answers if isinstance(answer, stripe.RateLimitError)]
        assert error.http_status == 429
        assert error.error is not None
        assert error.error.code == "lock_timeout"
        assert "Stripe-Rate-Limited-Reason" not in (error.headers or {})
        (violation,) = double.violations
        assert (violation.event_name, violation.customer) == ("api_request", customer)
        assert len(double.accepted) == 1


async def test_other_customers_and_meters_are_free() -> None:
    """Calls for several customers or several meters run side by side."""
    async with StripeDouble(settings=Settings(latency=0.05)) as double:
        double.add_meter("api_request")
        double.add_meter("tokens")
        one, two = double.add_customer(), double.add_customer()
        async with sdk(double) as client:
            await asyncio.gather(
                send(client, one, identifier="a"),
                send(client, two, identifier="b"),
                send(client, one, identifier="c", event_name="tokens"),
            )
        assert len(double.accepted) == 3
        assert double.violations == []


async def test_after_a_client_gave_up_the_lock_is_no_violation() -> None:
    """A call that its client gave up still holds the lock, but a sender cannot know that."""
    async with StripeDouble() as double:
        double.add_meter("api_request")
        customer = double.add_customer()
        double.fault(EVENTS, Fault.SLOW_BEFORE, seconds=0.6)
        async with sdk(double, patience=0.2) as client:
            with pytest.raises(stripe.APIConnectionError):
                await send(client, customer, identifier="a")
            with pytest.raises(stripe.RateLimitError):
                await send(client, customer, identifier="b")
            await double.wait_until(lambda: len(double.accepted) == 1)
        assert double.accepted[0].identifier == "a"
        assert double.violations == []


async def test_meter_events_beyond_the_rate_are_refused_with_their_reason() -> None:
    """A bucket holds a second's worth and fills with time; beyond it: 429, `endpoint-rate`, no Retry-After."""
    seconds = Seconds()
    settings = Settings(limits=RateLimits(meter_events=5), latency=0)
    async with StripeDouble(settings=settings, monotonic=seconds) as double:
        double.add_meter("api_request")
        customer = double.add_customer()
        async with sdk(double) as client:
            for number in range(5):
                await send(client, customer, identifier=f"e{number}")
            with pytest.raises(stripe.RateLimitError) as caught:
                await send(client, customer, identifier="e5")
            headers = caught.value.headers or {}
            assert headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
            assert "Retry-After" not in headers
            seconds.now += 0.4
            await send(client, customer, identifier="e5")
            await send(client, customer, identifier="e6")
            with pytest.raises(stripe.RateLimitError):
                await send(client, customer, identifier="e7")
        assert len(double.accepted) == 7


async def test_connected_accounts_have_only_the_basic_rate() -> None:
    """Meter events for a connected account draw from its basic bucket, and every account has buckets of its own."""
    settings = Settings(limits=RateLimits(meter_events=1_000, basic=2), latency=0)
    async with StripeDouble(settings=settings, monotonic=Seconds()) as double:
        for account in ("acct_1", "acct_2"):
            double.add_meter("api_request", account=account)
        customers = {account: double.add_customer(account=account) for account in ("acct_1", "acct_2")}
        for account, customer in customers.items():
            async with sdk(double, account=account) as client:
                await send(client, customer, identifier="a")
                await send(client, customer, identifier="b")
                with pytest.raises(stripe.RateLimitError):
                    await send(client, customer, identifier="c")


async def test_search_has_twenty_a_second() -> None:
    """Search draws from a bucket of its own besides the basic one, and limits can be switched off."""
    async with StripeDouble(monotonic=Seconds()) as double, sdk(double) as client:
        for _ in range(20):
            await client.v1.customers.search_async({"query": 'email:"a@b.c"'})
        with pytest.raises(stripe.RateLimitError):
            await client.v1.customers.search_async({"query": 'email:"a@b.c"'})
        for _ in range(80):
            await client.v1.customers.list_async({})
        with pytest.raises(stripe.RateLimitError):
            await client.v1.customers.list_async({})
        double.settings.limits = RateLimits.off()
        for _ in range(30):
            await client.v1.customers.search_async({"query": 'email:"a@b.c"'})
