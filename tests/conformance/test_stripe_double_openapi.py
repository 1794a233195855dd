"""What the double answers and delivers beyond what our exporter calls, against the schemas that Stripe publishes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import stripe
from recording_proxy import RecordingProxy
from stripe_openapi import body_problems, problems
from stripe_sdk import sdk, send
from webhook_receiver import WebhookReceiver

from otel_usageflow.testing.stripe import ManualClock, StripeDouble


@pytest.fixture
async def double() -> AsyncIterator[StripeDouble]:
    """A double with a meter; its clock stands at the present."""
    async with StripeDouble(clock=ManualClock()) as running:
        running.add_meter("api_request")
        yield running


@pytest.fixture
async def proxy(double: StripeDouble) -> AsyncIterator[RecordingProxy]:
    """What lies between the client and the double."""
    async with RecordingProxy(double.url) as running:
        yield running


def client_of(proxy: RecordingProxy, key: str) -> tuple[stripe.StripeClient, stripe.AIOHTTPClient]:
    """The real client, through the proxy."""
    http = stripe.AIOHTTPClient()
    return stripe.StripeClient(key, base_addresses={"api": proxy.url}, http_client=http, max_network_retries=0), http


async def test_accounts_and_single_objects_are_as_published(double: StripeDouble, proxy: RecordingProxy) -> None:
    """Accounts, meters and events one by one, customers made in bulk, and refusals about accounts."""
    double.connect_account("acct_shop")
    many = double.add_customers(3, "account_id")
    double.disconnect_account("acct_shop")
    double.connect_account("acct_shop")
    client, http = client_of(proxy, double.api_key)
    await client.v1.accounts.list_async({"limit": 10})
    await client.v1.accounts.retrieve_current_async()
    await client.v1.accounts.retrieve_async("acct_shop")
    for event in (await client.v1.events.list_async({"limit": 100})).data:
        await client.v1.events.retrieve_async(event.id)
    meter = (await client.v1.billing.meters.list_async()).data[0]
    await client.v1.billing.meters.deactivate_async(meter.id)
    await client.v1.billing.meters.reactivate_async(meter.id)
    await client.v1.billing.meters.update_async(meter.id, {"display_name": "Requests"})
    await client.v1.billing.meters.retrieve_async(meter.id)
    await client.v1.customers.list_async()
    await client.v1.customers.retrieve_async(many.id_of(1))
    await client.v1.customers.update_async(many.id_of(1), {"metadata": {"account_id": "other"}})
    await client.v1.customers.delete_async(many.id_of(2))
    with pytest.raises(stripe.PermissionError):
        await client.v1.customers.list_async(options={"stripe_account": "acct_stranger"})
    await http.close_async()  # type: ignore[no-untyped-call]
    assert {exchange.status for exchange in proxy.exchanges} == {200, 403}
    assert [text for exchange in proxy.exchanges for text in problems(exchange)] == []


async def test_what_is_delivered_is_as_published(double: StripeDouble) -> None:
    """Snapshot events of customers, meters and accounts have the shape of events; thin ones that of v2 events."""
    async with WebhookReceiver() as snapshots, WebhookReceiver() as connected, WebhookReceiver() as thin:
        double.add_webhook(snapshots.url)
        double.add_webhook(connected.url, connect=True)
        double.add_webhook(thin.url, kind="thin")
        customer = double.add_customer({"account_id": "acme"})
        double.update_customer(customer, {"account_id": "acme2"})
        double.reject("api_request", "meter_event_customer_not_found", real=True)
        double.reject("api_request", "no_meter")
        double.connect_account("acct_shop")
        double.add_customer(account="acct_shop")
        double.disconnect_account("acct_shop")
        other = double.add_customer()
        now = int(double.clock.now())
        async with sdk(double) as client:
            await send(client, customer, identifier="a", timestamp=now)
            await send(client, other, identifier="b", timestamp=now)
        double.deactivate_meter("api_request")
        double.clock.advance(10)
        await double.wait_until(lambda: len(thin.received) == 2 and double.webhooks.idle)
    events: list[Any] = [json.loads(one.body) for one in (*snapshots.received, *connected.received)]
    assert {event["type"] for event in events} >= {
        "customer.created",
        "customer.updated",
        "customer.deleted",
        "billing.meter.deactivated",
        "account.application.authorized",
        "account.application.deauthorized",
    }
    assert {event.get("account") for event in events} == {None, "acct_shop"}
    for event in events:
        assert body_problems("v1", "event", event) == []
        subject = event["data"]["object"]
        assert body_problems("v1", subject["object"], subject) == []
    for received in thin.received:
        assert body_problems("v2", "v2.core.event", json.loads(received.body)) == []


def test_the_check_of_bodies_can_fail() -> None:
    """What is not as published is told."""
    assert "'data' is a required" in " ".join(body_problems("v1", "event", {"id": "evt_1", "object": "event"}))
    assert body_problems("v2", "v2.core.event", {"id": 1}) != []
