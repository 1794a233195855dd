"""The real `stripe` package, pointed at the double."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import stripe

from otel_usageflow.testing.stripe import StripeDouble

stripe.enable_telemetry = False


@asynccontextmanager
async def sdk(
    double: StripeDouble, *, api_key: str | None = None, account: str | None = None, patience: float = 10
) -> AsyncIterator[stripe.StripeClient]:
    """A client without retries of its own that waits `patience` seconds for an answer, closed at the end."""
    http = stripe.AIOHTTPClient(timeout=patience)
    try:
        yield stripe.StripeClient(
            api_key or double.api_key,
            stripe_account=account,
            base_addresses={"api": double.url, "connect": double.url, "meter_events": double.url},
            http_client=http,
            max_network_retries=0,
        )
    finally:
        await http.close_async()


async def send(
    client: stripe.StripeClient,
    customer: str,
    value: str = "1",
    *,
    identifier: str = "id-1",
    key: str | None = None,
    timestamp: int | None = None,
    event_name: str = "api_request",
    **extra: Any,
) -> Any:
    """Send one meter event; the idempotency key is the identifier unless another is given."""
    return await client.v1.billing.meter_events.create_async(
        {
            "event_name": event_name,
            "identifier": identifier,
            "timestamp": int(time.time()) if timestamp is None else timestamp,
            "payload": {"stripe_customer_id": customer, "value": value, **extra},
        },
        {"idempotency_key": key or identifier},
    )
