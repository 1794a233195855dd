"""Which accounts a key may act for, and what becomes of keys, through the real client."""

from typing import Any

import aiohttp
import pytest
import stripe
from stripe_sdk import sdk

from otel_usageflow.testing.stripe import ManualClock, RateLimits, Settings, StripeDouble

KEYS = ["sk_test_double", "sk_live_double"]


async def customers_of(client: stripe.StripeClient, account: str) -> int:
    """How many customers an account shows."""
    return len((await client.v1.customers.list_async(options={"stripe_account": account})).data)


async def refusal(call: Any) -> tuple[int | None, str]:
    """Status and code of what comes of a call."""
    with pytest.raises(stripe.StripeError) as caught:
        await call
    body: Any = caught.value.json_body
    return caught.value.http_status, body["error"].get("code", "")


async def test_any_account_will_do_until_one_is_connected() -> None:
    """A first connection ends the leniency, as does the setting; with the other setting it never ends."""
    async with StripeDouble() as double, sdk(double) as client:
        assert await customers_of(client, "acct_any") == 0
        double.settings.account_access = "connected"
        assert await refusal(customers_of(client, "acct_any")) == (403, "account_invalid")
        double.settings.account_access = "automatic"
        double.connect_account("acct_shop")
        assert await customers_of(client, "acct_shop") == 0
        assert await refusal(customers_of(client, "acct_any")) == (403, "account_invalid")
        double.settings.account_access = "any"
        assert await customers_of(client, "acct_any") == 0


async def test_a_connection_is_of_a_mode() -> None:
    """One of test mode is not good for a live key; one of live mode is good for both."""
    async with StripeDouble(KEYS) as double, sdk(double) as test, sdk(double, api_key=KEYS[1]) as live:
        double.connect_account("acct_test")
        double.connect_account("acct_live", livemode=True)
        assert await customers_of(test, "acct_test") == 0
        assert await refusal(customers_of(live, "acct_test")) == (403, "account_invalid")
        assert await customers_of(live, "acct_live") == await customers_of(test, "acct_live") == 0
        assert double.connected() == ["acct_live", "acct_test"]
        assert double.connected(livemode=True) == ["acct_live"]


async def test_v2_names_accounts_by_context() -> None:
    """`Stripe-Context` is judged as `Stripe-Account` is, also the last of a path."""
    async with StripeDouble() as double, sdk(double) as client:
        double.connect_account("acct_shop")

        async def session(context: str) -> Any:
            options: Any = {"stripe_context": context}
            return await client.v2.billing.meter_event_session.create_async({}, options)

        for good in ("acct_shop", "acct_double/acct_shop", "acct_double"):
            assert (await session(good)).livemode is False
        assert await refusal(session("acct_other")) == (403, "account_invalid")


async def test_a_disconnected_account_is_closed_at_once() -> None:
    """Calls and tokens of the stream are refused, and the platform's events say why; connected again, all is well."""
    clock = ManualClock()
    async with StripeDouble(clock=clock) as double, sdk(double) as client:
        double.connect_account("acct_shop")
        double.add_meter("api_request", account="acct_shop")
        made = await client.v2.billing.meter_event_session.create_async({}, {"stripe_context": "acct_shop"})
        double.disconnect_account("acct_shop")
        assert await refusal(customers_of(client, "acct_shop")) == (403, "account_invalid")
        event: Any = {"event_name": "api_request", "payload": {"stripe_customer_id": "cus_x", "value": "1"}}
        sent = client.v2.billing.meter_event_stream.create_async(
            {"events": [event]}, {"api_key": made.authentication_token}
        )
        assert await refusal(sent) == (401, "billing_meter_event_session_expired")
        (told,) = (await client.v1.events.list_async({"type": "account.application.deauthorized"})).data
        assert (told.account, told.data.object["object"]) == ("acct_shop", "application")
        with pytest.raises(KeyError, match="acct_shop"):
            double.disconnect_account("acct_shop")
        double.connect_account("acct_shop")
        assert await customers_of(client, "acct_shop") == 0


async def test_accounts_are_listed_and_shown() -> None:
    """A platform sees itself and those that are connected, newest first, page by page; no others."""
    clock = ManualClock(1_790_000_000)
    async with StripeDouble(clock=clock) as double, sdk(double) as client:
        for number in range(3):
            double.connect_account(f"acct_{number}")
            clock.advance(1)
        page = await client.v1.accounts.list_async({"limit": 2})
        assert [one.id for one in page.data] == ["acct_2", "acct_1"]
        assert [one.id async for one in page.auto_paging_iter()] == ["acct_2", "acct_1", "acct_0"]
        assert (await client.v1.accounts.retrieve_async("acct_1")).created == 1_790_000_001
        assert (await client.v1.accounts.retrieve_current_async()).id == "acct_double"
        acting = await client.v1.accounts.retrieve_current_async(options={"stripe_account": "acct_1"})
        assert acting.id == "acct_1"
        assert await refusal(client.v1.accounts.retrieve_async("acct_9")) == (403, "account_invalid")


async def test_keys_are_revoked_and_rolled() -> None:
    """A revoked key is unknown, a rolled one has expired, and its successor may do the same."""
    key = "rk_test_old"
    async with StripeDouble([key, "sk_test_b"], permissions={key: {"customer_read"}}) as double:
        double.roll_key(key, "rk_test_new")
        double.revoke_key("sk_test_b")
        for used, refused in ((key, (401, "api_key_expired")), ("sk_test_b", (401, ""))):
            async with sdk(double, api_key=used) as client:
                assert await refusal(client.v1.customers.list_async()) == refused
        async with sdk(double, api_key="rk_test_new") as client:
            await client.v1.customers.list_async()
            assert (await refusal(client.v1.customers.create_async({})))[0] == 403


async def test_an_app_may_do_what_it_has_asked_for() -> None:
    """What is missing is a 403 with its own code."""
    client_id = "ca_test_app"
    async with StripeDouble(client_ids=[client_id], permissions={client_id: {"customer_read"}}) as double:
        double.settings.consent = "approve"
        headers = {"Authorization": f"Bearer {double.api_key}"}
        link = f"{double.url}/oauth/v2/authorize?client_id={client_id}&redirect_uri=http://127.0.0.1:1/back&state=s"
        code = double.approve(link, "acct_shop").partition("code=")[2].partition("&")[0]
        async with aiohttp.ClientSession(headers=headers) as http:
            form = {"grant_type": "authorization_code", "code": code}
            async with http.post(f"{double.url}/v1/oauth/token", data=form) as answer:
                token = (await answer.json())["access_token"]
        async with sdk(double, api_key=token) as client:
            await client.v1.customers.list_async()
            refused = await refusal(client.v1.customers.create_async({}))
            assert refused == (403, "more_permissions_required_for_application")


async def test_each_endpoint_may_have_a_limit_and_the_stream_one_of_events() -> None:
    """Switched on, one endpoint is refused while another is free; a batch counts by its events."""
    limits = RateLimits(endpoint=2, stream_events=150)
    async with StripeDouble(settings=Settings(limits=limits), monotonic=lambda: 1.0) as double, sdk(double) as client:
        for _ in range(2):
            await client.v1.customers.list_async()
        with pytest.raises(stripe.RateLimitError) as caught:
            await client.v1.customers.list_async()
        assert caught.value.headers is not None
        assert caught.value.headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
        await client.v1.billing.meters.list_async()
        options: Any = {"api_key": (await client.v2.billing.meter_event_session.create_async()).authentication_token}
        batch: Any = {"events": [{"event_name": "x", "payload": {}}] * 100}
        await client.v2.billing.meter_event_stream.create_async(batch, options)
        assert (await refusal(client.v2.billing.meter_event_stream.create_async(batch, options)))[0] == 429
