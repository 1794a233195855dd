"""Our calls of v1 against Stripe's own mock, which validates them by Stripe's OpenAPI, keeps nothing, knows no v2."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import stripe
from foreign_programs import PATIENCE, need
from prepare import STRIPE_MOCK

from otel_usageflow.exporters.stripe_meter.api import StripeApi, connect
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.wire import UnexpectedAnswer
from otel_usageflow.model.meter_event import MeterEvent

NOW = 1_790_000_000
METER = Meter("api_request", "sum", active=True)
EVENT = MeterEvent(1, "", "api_request", "cus_1", "1.5", NOW, "uf_s1_a", "uf_s1_a", {"model": "large"})


async def _all(pages: AsyncIterator[Any]) -> list[Any]:
    return [one async for page in pages for one in page]


CALLS: dict[str, Callable[[StripeApi], Awaitable[Any]]] = {
    "create_meter_event": lambda api: api.create_meter_event(EVENT, METER),
    "cancel_meter_event": lambda api: api.cancel_meter_event("", "api_request", "uf_s1_a", "key"),
    "meters": lambda api: api.meters(""),
    "create_meter": lambda api: api.create_meter("", "api_request"),
    "customers": lambda api: api.customers(""),
    "changes": lambda api: _all(api.changes("", NOW)),
    "look": lambda api: api.look("", "/v1/events?limit=1"),
    "customer": lambda api: api.customer("", "cus_1"),
    "search_customers": lambda api: api.search_customers("", "account_id", "acme"),
    "summaries": lambda api: _all(api.summaries("", "mtr_1", "cus_1", 0, 86_400, "day")),
}
WITHOUT_V2 = {"create_session", "error_report", "error_reports", "stream_events"}


@asynccontextmanager
async def mock() -> AsyncIterator[str]:
    """Stripe's mock as a process; its address."""
    program = need(STRIPE_MOCK) / STRIPE_MOCK.start
    process = await asyncio.create_subprocess_exec(
        str(program), "-http-addr", "127.0.0.1:", "-https-addr", "127.0.0.1:", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(rb"HTTP at address: (127\.0\.0\.1:\d+)", await process.stdout.readline())):
                assert process.returncode is None
        yield f"http://{found[1].decode()}"
    finally:
        process.kill()
        await process.communicate()


def _config(url: str) -> StripeMeterConfig:
    values = {"api_key": "sk_test_123", "endpoints": {"api": url}, "sending_queue": {"storage": "x"}}
    return StripeMeterConfig.model_validate(values)


async def test_every_call_of_v1_is_valid() -> None:
    """Stripe's own validator takes the parameters of each call, and we read its answers."""
    async with mock() as url, connect(_config(url)) as api:
        for name, call in CALLS.items():
            try:
                await call(api)
            except (stripe.StripeError, UnexpectedAnswer) as error:
                pytest.fail(f"{name}: {error}")
    public = {name for name, _ in inspect.getmembers(StripeApi, inspect.isfunction) if not name.startswith("_")}
    assert public == set(CALLS) | WITHOUT_V2


async def test_the_mock_does_refuse() -> None:
    """What Stripe's OpenAPI does not know is refused, so that the test above means something."""
    async with mock() as url:
        http = stripe.AIOHTTPClient()
        addresses: Any = {"api": url}
        client = stripe.StripeClient("sk_test_123", base_addresses=addresses, http_client=http)
        wrong: Any = {"event_name": "x", "payload": {"value": "1"}, "when": "now"}
        with pytest.raises(stripe.InvalidRequestError, match="additional properties"):
            await client.v1.billing.meter_events.create_async(wrong)
        await http.close_async()
