"""Stripe, `/v2/billing/meter_event_session` and `meter_event_stream`, through the real client."""

from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import stripe
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import Fault, ManualClock, RateLimits, Settings, StripeDouble

NOW = 1_790_000_000
STREAM = "/v2/billing/meter_event_stream"


@pytest.fixture
async def double() -> Any:
    """A double with one meter; its clock stands still at the beginning of a window."""
    async with StripeDouble(clock=ManualClock(NOW)) as running:
        running.add_meter("api_request")
        yield running


@pytest.fixture
def customer(double: StripeDouble) -> str:
    """One customer."""
    return double.add_customer()


def event(customer: str, identifier: str, value: str = "1", **more: Any) -> dict[str, Any]:
    """One event of a batch."""
    payload = {"stripe_customer_id": customer, "value": value}
    return {"event_name": "api_request", "payload": payload, "identifier": identifier} | more


async def session(client: stripe.StripeClient, **options: Any) -> Any:
    """A new session."""
    return await client.v2.billing.meter_event_session.create_async({}, options)


async def stream(client: stripe.StripeClient, token: str, *events: dict[str, Any], key: str | None = None) -> Any:
    """One batch."""
    options: Any = {"api_key": token} | ({"idempotency_key": key} if key is not None else {})
    params: Any = {"events": list(events)}
    return await client.v2.billing.meter_event_stream.create_async(params, options)


async def test_a_batch_is_taken_and_counts(double: StripeDouble, customer: str) -> None:
    """A session's token takes up to 100 events a call; their time is RFC 3339, and the answer says nothing."""
    async with sdk(double) as client:
        made = await session(client)
        moment = datetime.fromtimestamp(NOW - 60, UTC).isoformat()
        batch = [event(customer, f"id-{number}", "2", timestamp=moment) for number in range(100)]
        assert await stream(client, made.authentication_token, *batch) is None
    assert (made.object, made.livemode) == ("v2.billing.meter_event_session", False)
    assert datetime.fromisoformat(made.expires_at).timestamp() == NOW + 900
    assert double.total("api_request", customer) == 200
    assert {one.timestamp for one in double.accepted} == {NOW - 60}


async def test_a_known_identifier_is_dropped_without_a_word(double: StripeDouble, customer: str) -> None:
    """Within a batch, in a later one, and sent through v1 before: it counts once, whichever way it came first."""
    async with sdk(double) as client:
        token = (await session(client)).authentication_token
        await send(client, customer, identifier="a", timestamp=NOW)
        await stream(client, token, event(customer, "a"), event(customer, "b"), event(customer, "b"))
        await stream(client, token, event(customer, "b"), event(customer, "c"))
        with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier c"):
            await send(client, customer, identifier="c", key="other", timestamp=NOW)
    assert double.total("api_request", customer) == 3
    assert double.rejected == []


async def test_what_is_wrong_with_an_event_is_told_later(double: StripeDouble, customer: str) -> None:
    """The batch is acknowledged whole; the report's samples name the batch by its idempotency key."""
    double.settings.validation = "synchronous"  # which is a matter of v1 only
    async with sdk(double) as client:
        token = (await session(client)).authentication_token
        batch = (event(customer, "good"), event("cus_none", "bad"), event(customer, "worse", "much"))
        await stream(client, token, *batch, key="batch-1")
        double.clock.advance(10)
        (listed,) = (await client.v2.core.events.list_async()).data
        report: Any = await client.v2.core.events.retrieve_async(listed.id)
    assert double.total("api_request", customer) == 1
    codes = {one.code: one.sample_errors[0].request.identifier for one in report.data.reason.error_types}
    assert codes == {"meter_event_customer_not_found": "batch-1", "meter_event_invalid_value": "batch-1"}


async def test_a_token_expires(double: StripeDouble, customer: str) -> None:
    """After 15 minutes a 401 with its own type, and nothing was taken; a new session goes on."""
    async with sdk(double) as client:
        old = (await session(client)).authentication_token
        double.clock.advance(899)
        await stream(client, old, event(customer, "a"))
        double.clock.advance(1)
        with pytest.raises(stripe.StripeError) as caught:
            await stream(client, old, event(customer, "b"))
        assert caught.value.http_status == 401
        assert isinstance(caught.value, stripe.TemporarySessionExpiredError)
        await stream(client, (await session(client)).authentication_token, event(customer, "b"))
    assert double.total("api_request", customer) == 2


async def test_only_a_token_of_a_session_will_do(double: StripeDouble, customer: str) -> None:
    """The key itself, a made-up token, and one after `expire_all` are refused."""
    async with sdk(double) as client:
        token = (await session(client)).authentication_token
        double.sessions.expire_all()
        for wrong in (double.api_key, "made-up", token):
            with pytest.raises(stripe.StripeError) as caught:
                await stream(client, wrong, event(customer, "a"))
            assert caught.value.http_status == 401
    assert double.accepted == []


async def test_a_token_is_of_one_account_and_mode(customer: str) -> None:
    """Whatever header comes with the batch, the events are those of the account whose session it is."""
    async with StripeDouble(["sk_test_a", "sk_live_a"], clock=ManualClock(NOW)) as double:
        for account in (None, "acct_1"):
            double.add_meter("api_request", account=account)
        connected = double.add_customer(account="acct_1")
        async with sdk(double) as client:
            made = await session(client, stripe_context="acct_1")
            await stream(client, made.authentication_token, event(connected, "a"))
        async with sdk(double, api_key="sk_live_a") as client:
            assert (await session(client)).livemode is True
        assert [one.account for one in double.accepted] == ["acct_1"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b'{"events": []}',
        b'{"events": {}}',
        b'{"events": [1]}',
        b'{"events": [{"event_name": "api_request"}]}',
        b'{"events": [{"event_name": "api_request", "payload": {"value": 1}}]}',
        b'{"events": [{"event_name": "api_request", "payload": {}, "timestamp": 1790000000}]}',
        b'{"events": [{"event_name": "api_request", "payload": {}, "timestamp": "2026-11-22T12:00:00"}]}',
        b'{"events": [{"event_name": "api_request", "payload": {}, "other": "1"}]}',
        b'{"events": [%s]}' % b", ".join([b'{"event_name": "x", "payload": {}}'] * 101),
    ],
)
async def test_a_malformed_request_is_refused_whole(double: StripeDouble, body: bytes) -> None:
    """400 in the shape of v2, and none of its events was taken."""
    token = double.sessions.create(double.account())["authentication_token"]
    headers = {"Authorization": f"Bearer {token}", "Stripe-Version": "2026-10-28.endive"}
    async with aiohttp.ClientSession() as http, http.post(double.url + STREAM, data=body, headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"].keys() == {"code", "message"}
    assert double.accepted == []
    assert double.rejected == []


async def test_idempotency_of_v2(double: StripeDouble, customer: str) -> None:
    """A success is replayed for 30 days, a failure executed again, other parameters are a 409."""
    async with sdk(double) as client:
        token = (await session(client)).authentication_token
        double.fault(STREAM, Fault.ERROR_STORED, times=1)
        with pytest.raises(stripe.APIError):
            await stream(client, token, event(customer, "a"), key="k")
        await stream(client, token, event(customer, "a"), key="k")
        with pytest.raises(stripe.StripeError) as caught:
            await stream(client, token, event(customer, "b"), key="k")
        assert caught.value.http_status == 409
        double.settings.session_life = 60 * 86_400
        token = (await session(client)).authentication_token
        double.clock.advance(29 * 86_400)
        await stream(client, token, event(customer, "a"), key="k")
        assert double.total("api_request", customer) == 1
        double.clock.advance(86_400)
        await stream(client, token, event(customer, "a"), key="k")
    assert double.total("api_request", customer) == 2


async def test_a_sandbox_counts_everything_as_basic(customer: str) -> None:
    """In a sandbox 25 calls a second are all there is, of whatever kind."""
    async with StripeDouble(settings=Settings(limits=RateLimits.sandbox()), monotonic=lambda: 0.0) as double:
        double.add_meter("api_request")
        someone = double.add_customer()
        async with sdk(double) as client:
            token = (await session(client)).authentication_token
            for number in range(24):
                await stream(client, token, event(someone, f"id-{number}"))
            with pytest.raises(stripe.RateLimitError):
                await send(client, someone, identifier="one-too-many")
    assert double.total("api_request", someone) == 24
