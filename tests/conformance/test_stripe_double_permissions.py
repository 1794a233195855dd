"""Stripe's restricted keys: what a key may not do is a 403 that names the permission."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import stripe
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import StripeDouble

KEY = "rk_test_restricted"

Call = Callable[[stripe.StripeClient], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "billing_meter_event_write": lambda client: send(client, "cus_x"),
    "billing_meter_read": lambda client: client.v1.billing.meters.list_async(),
    "billing_meter_write": lambda client: client.v1.billing.meters.create_async(
        {"display_name": "x", "event_name": "x", "default_aggregation": {"formula": "sum"}}
    ),
    "billing_meter_event_adjustment_write": lambda client: client.v1.billing.meter_event_adjustments.create_async(
        {"event_name": "x", "type": "cancel", "cancel": {"identifier": "x"}}
    ),
    "customer_read": lambda client: client.v1.customers.list_async(),
    "customer_write": lambda client: client.v1.customers.create_async({}),
    "event_read": lambda client: client.v1.events.list_async(),
}


async def refused(call: Call, *granted: str) -> str | None:
    """The permission that the refusal names; None if the call was let through."""
    async with StripeDouble(KEY, permissions={KEY: set(granted)}) as double, sdk(double) as client:
        try:
            await call(client)
        except stripe.PermissionError as error:
            return str(error.user_message).partition("'rak_")[2].partition("'")[0]
        except stripe.InvalidRequestError:
            return None
        return None


@pytest.mark.parametrize("permission", CALLS)
async def test_each_call_needs_its_permission(permission: str) -> None:
    """Without it 403 with its name, with it alone the call is let through."""
    assert await refused(CALLS[permission]) == permission
    assert await refused(CALLS[permission], permission) is None


async def test_writing_includes_reading() -> None:
    """A key that may write customers may read them, and not the other way round."""
    assert await refused(CALLS["customer_read"], "customer_write") is None
    assert await refused(CALLS["customer_write"], "customer_read") == "customer_write"


async def test_v2_needs_permissions_too() -> None:
    """Error reports need events, a session for the stream needs writing meter events."""

    async def session(client: stripe.StripeClient) -> Any:
        return await client.v2.billing.meter_event_session.create_async()

    async def reports(client: stripe.StripeClient) -> Any:
        return await client.v2.core.events.list_async()

    async with StripeDouble(KEY, permissions={KEY: {"customer_read"}}) as double, sdk(double) as client:
        for call, permission in ((session, "billing_meter_event_write"), (reports, "event_read")):
            with pytest.raises(stripe.StripeError, match=f"rak_{permission}") as caught:
                await call(client)
            assert caught.value.http_status == 403


async def test_a_key_without_a_list_may_do_everything() -> None:
    """Only keys that are named are restricted."""
    async with StripeDouble([KEY, "sk_test_all"], permissions={KEY: set()}) as double:
        async with sdk(double, api_key="sk_test_all") as client:
            await client.v1.customers.list_async()
        async with sdk(double) as client:
            with pytest.raises(stripe.PermissionError):
                await client.v1.customers.list_async()


def test_a_permission_that_does_not_exist() -> None:
    """A slip in a test's own permissions is an error, not a key that may do nothing."""
    with pytest.raises(ValueError, match="there is no permission customers_read"):
        StripeDouble(KEY, permissions={KEY: {"customers_read"}})
