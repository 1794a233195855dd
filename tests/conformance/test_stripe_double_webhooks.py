"""Webhooks as Stripe delivers them, checked with the real client."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import stripe
from stripe_sdk import sdk, send
from webhook_receiver import Received, WebhookReceiver

from otel_usageflow.testing.stripe import ManualClock, StripeDouble, WebhookEndpoint, WebhookFault


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    """Somebody who is told."""
    async with WebhookReceiver() as running:
        yield running


@pytest.fixture
async def double() -> AsyncIterator[StripeDouble]:
    """A double whose clock stands at the present."""
    async with StripeDouble(clock=ManualClock()) as running:
        yield running


def read(one: Received, endpoint: WebhookEndpoint) -> Any:
    """A snapshot event as the client takes it."""
    return stripe.Webhook.construct_event(one.body, one.signature, endpoint.secret)


async def test_a_change_is_told_and_signed(double: StripeDouble, receiver: WebhookReceiver) -> None:
    """The body is the event, the signature is good for it with the endpoint's secret and for nothing else."""
    endpoint = double.add_webhook(receiver.url, secret="whsec_mine", events=["customer.*"])
    double.add_meter("api_request")
    customer = double.add_customer({"account_id": "acme"})
    double.update_customer(customer, {"account_id": "acme2"})
    double.delete_customer(customer)
    await double.wait_until(lambda: len(receiver.received) == 3)
    events = [read(one, endpoint) for one in receiver.received]
    assert [event.type for event in events] == ["customer.created", "customer.updated", "customer.deleted"]
    assert events[1].data.previous_attributes.to_dict() == {"metadata": {"account_id": "acme"}}
    for body, secret in ((receiver.received[0].body + b" ", "whsec_mine"), (receiver.received[0].body, "whsec_x")):
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(body, receiver.received[0].signature, secret)
    async with sdk(double) as client:
        assert (await client.v1.events.retrieve_async(events[0].id)).type == "customer.created"


async def test_while_a_secret_is_rolled_both_sign(double: StripeDouble, receiver: WebhookReceiver) -> None:
    """There are two `v1` until the old secret is forgotten."""
    endpoint = double.add_webhook(receiver.url)
    old, new = endpoint.secret, endpoint.roll()
    double.add_customer()
    await double.wait_until(lambda: len(receiver.received) == 1)
    endpoint.forget()
    double.add_customer()
    await double.wait_until(lambda: len(receiver.received) == 2)
    both, one = receiver.received
    assert (both.signature.count("v1="), one.signature.count("v1=")) == (2, 1)
    for secret in (old, new):
        stripe.Webhook.construct_event(both.body, both.signature, secret)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(one.body, one.signature, old)


async def test_a_report_is_told_thin(double: StripeDouble, receiver: WebhookReceiver) -> None:
    """When a report appears, its notice is delivered; the client verifies it and fetches the rest."""
    endpoint = double.add_webhook(receiver.url, kind="thin")
    double.add_meter("api_request")
    customer = double.add_customer()
    double.reject("api_request", "archived_meter")
    double.reject("api_request", "no_meter")
    now = int(double.clock.now())
    async with sdk(double) as client:
        await send(client, customer, identifier="a", timestamp=now)
        await send(client, customer, identifier="b", timestamp=now)
        assert receiver.received == []
        double.clock.advance(10)
        await double.wait_until(lambda: len(receiver.received) == 2)
        notices = [
            client.parse_event_notification(one.body, one.signature, endpoint.secret) for one in receiver.received
        ]
        assert {notice.type for notice in notices} == {
            "v1.billing.meter.error_report_triggered",
            "v1.billing.meter.no_meter_found",
        }
        for notice in notices:
            # Not `fetch_event_async`: in 16.1.0 it sends a parameter `usage` that no such call has.
            whole: Any = await client.v2.core.events.retrieve_async(notice.id)
            assert whole.data.reason.error_count == 1
    assert b"data" not in receiver.received[0].body


async def test_a_failure_comes_again(double: StripeDouble, receiver: WebhookReceiver) -> None:
    """After a minute, and after two more, by the clock; in test mode the third attempt is the last."""
    receiver.statuses = [500, 302, 404]
    double.add_webhook(receiver.url)
    double.add_customer()
    await double.wait_until(lambda: len(double.deliveries) == 1)
    for seconds, attempts in ((59, 1), (1, 2), (119, 2), (1, 3), (86_400, 3)):
        double.clock.advance(seconds)
        expected = attempts
        await double.wait_until(lambda: len(double.deliveries) == expected and double.webhooks.idle)  # noqa: B023
    assert [one.status for one in double.deliveries] == [500, 302, 404]
    assert len({one.event_id for one in double.deliveries}) == 1


async def test_an_endpoint_that_is_not_there_is_tried_again(double: StripeDouble) -> None:
    """No answer is a failure as any other."""
    double.settings.webhook_retry_delay = 0
    double.add_webhook("http://127.0.0.1:1/webhook")
    double.add_customer()
    await double.wait_until(lambda: len(double.deliveries) == 3)
    assert {one.status for one in double.deliveries} == {0}


@pytest.mark.parametrize(
    "fault", [WebhookFault.WRONG_SIGNATURE, WebhookFault.OLD_TIMESTAMP, WebhookFault.CHANGED_BODY]
)
async def test_what_is_badly_signed_is_refused(
    double: StripeDouble, receiver: WebhookReceiver, fault: WebhookFault
) -> None:
    """The client refuses the first; the event comes again, as it should be."""
    endpoint = double.add_webhook(receiver.url)
    rule = double.webhook_fault(fault)
    double.add_customer()
    await double.wait_until(lambda: len(receiver.received) == 2)
    assert rule.fired == 1
    with pytest.raises(stripe.SignatureVerificationError):
        read(receiver.received[0], endpoint)
    assert read(receiver.received[1], endpoint).type == "customer.created"


async def test_deliveries_are_late_twice_or_never(double: StripeDouble, receiver: WebhookReceiver) -> None:
    """As a test asks for it."""
    endpoint = double.add_webhook(receiver.url)
    double.webhook_fault(WebhookFault.LATE, seconds=100)
    double.webhook_fault(WebhookFault.DUPLICATED)
    double.webhook_fault(WebhookFault.LOST)
    for name in ("late", "twice", "never", "plain"):
        double.add_customer(name=name)
    await double.wait_until(lambda: len(receiver.received) == 3)
    double.clock.advance(100)
    await double.wait_until(lambda: len(receiver.received) == 4)
    names = [read(one, endpoint).data.object.name for one in receiver.received]
    assert sorted(names[:3]) == ["plain", "twice", "twice"]
    assert names[3] == "late"


async def test_they_arrive_shuffled_on_request(double: StripeDouble, receiver: WebhookReceiver) -> None:
    """Every event arrives, in another order than it happened."""
    double.settings.webhook_order = "shuffled"
    double.add_webhook(receiver.url)
    customers = [double.add_customer() for _ in range(20)]
    await double.wait_until(lambda: len(receiver.received) == 20)
    told = [json.loads(one.body)["data"]["object"]["id"] for one in receiver.received]
    assert told != customers
    assert sorted(told) == sorted(customers)


async def test_a_report_of_a_connected_account_names_it(double: StripeDouble, receiver: WebhookReceiver) -> None:
    """Thin events have the account as `context`, and only the endpoint for connected accounts is told."""
    endpoint = double.add_webhook(receiver.url, kind="thin", connect=True)
    double.connect_account("acct_shop")
    now = int(double.clock.now())
    for account in (None, "acct_shop"):
        double.add_meter("api_request", account=account)
        customer = double.add_customer(account=account)
        double.reject("api_request", "archived_meter", account=account)
        async with sdk(double, account=account) as client:
            await send(client, customer, identifier=f"id-{account}", timestamp=now)
    double.clock.advance(10)
    await double.wait_until(lambda: len(receiver.received) == 1 and double.webhooks.idle)
    async with sdk(double) as client:
        (one,) = receiver.received
        notice = client.parse_event_notification(one.body, one.signature, endpoint.secret)
        assert str(notice.context) == "acct_shop"
        options: Any = {"stripe_context": notice.context}
        whole: Any = await client.v2.core.events.retrieve_async(notice.id, options=options)
        assert whole.data.reason.error_types[0].sample_errors[0].request.identifier == "id-acct_shop"


async def test_who_hears_of_whom() -> None:
    """The platform's endpoint hears of itself, the one for connected accounts of them, each in its mode."""
    async with (
        WebhookReceiver() as own,
        WebhookReceiver() as connect,
        WebhookReceiver() as live,
        StripeDouble(["sk_test_a", "sk_live_a"]) as double,
    ):
        double.add_webhook(own.url, events=["customer.created"])
        double.connect_account("acct_live", livemode=True)
        double.connect_account("acct_shop")
        endpoint = double.add_webhook(connect.url, connect=True, events=["customer.created", "account.*"])
        double.add_webhook(live.url, connect=True, livemode=True, events=["customer.created", "account.*"])
        for account in (None, "acct_shop", "acct_stranger"):
            double.add_customer(account=account)
        double.add_customer(name="in both modes", account="acct_live")
        double.account("acct_shop", livemode=True).customers.create({})  # the connection is of test mode
        double.disconnect_account("acct_shop")
        double.add_customer(account="acct_shop")
        await double.wait_until(lambda: len(own.received) == 1 and len(connect.received) == 3)
        await double.wait_until(lambda: len(live.received) == 1 and double.webhooks.idle)
        events = [read(one, endpoint) for one in connect.received]
        assert [(event.account, event.type) for event in events] == [
            ("acct_shop", "customer.created"),
            ("acct_live", "customer.created"),
            ("acct_shop", "account.application.deauthorized"),
        ]
        assert "account" not in json.loads(own.received[0].body)
        heard = json.loads(live.received[0].body)  # live mode hears of test mode too
        assert (heard["account"], heard["livemode"]) == ("acct_live", False)
        assert (len(own.received), len(connect.received), len(live.received)) == (1, 3, 1)
        assert abs(json.loads(own.received[0].body)["created"] - time.time()) < 60
