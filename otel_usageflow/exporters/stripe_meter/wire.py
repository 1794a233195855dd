"""The way to Stripe: the `stripe` package's async client on connections of ours, and what can go wrong on the way."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from decimal import InvalidOperation

import aiohttp
import stripe

from otel_usageflow.exporters.stripe_meter.access import NotConnected
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.transport import Transport, transport


class UnexpectedAnswer(Exception):
    """Something answered that is not Stripe."""


StripeFailure = (stripe.StripeError, aiohttp.ClientError, TimeoutError, OSError, UnexpectedAnswer, NotConnected)
"""What a call can raise; `trouble.py` has words for each."""


@asynccontextmanager
async def opened(config: StripeMeterConfig) -> AsyncIterator[stripe.StripeClient]:
    """A client for as long as the block lasts. No call is made yet.

    Raises:
        StartError: the environment names a proxy or certificates that cannot be used.
    """
    async with way(config) as http:
        yield client(config, http)


def way(config: StripeMeterConfig) -> AbstractAsyncContextManager[Transport]:
    """The way to Stripe for as long as the block lasts; raises as `opened` does."""
    return transport(_bases(config).values(), config.timeout.total_seconds())


def client(config: StripeMeterConfig, http: stripe.HTTPClient) -> stripe.StripeClient:
    """The package's client on a way, which makes one attempt only."""
    stripe.enable_telemetry = False
    return stripe.StripeClient(
        config.api_key.get_secret_value(),
        base_addresses=_bases(config),  # type: ignore[arg-type]
        max_network_retries=0,
        http_client=http,
    )


def _bases(config: StripeMeterConfig) -> dict[str, str]:
    return {
        "api": config.endpoints.api.rstrip("/"),
        "meter_events": config.endpoints.meter_events.rstrip("/"),
        "connect": config.endpoints.connect.rstrip("/"),
    }


REMEDY = "is exporters::stripe_meter::endpoints right, and is there a proxy in between?"


@contextmanager
def only_from_stripe() -> Iterator[None]:
    """Take answers in which something is missing that Stripe always says for what they are."""
    try:
        yield
    except (AttributeError, InvalidOperation, KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"the answer is not Stripe's ({type(error).__name__}: {error}); " + REMEDY) from error
