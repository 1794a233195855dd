"""The way to Stripe: the `stripe` package's async client on connections of ours, and what can go wrong on the way."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import InvalidOperation
from typing import Any

import aiohttp
import stripe

from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig


class UnexpectedAnswer(Exception):
    """Something answered that is not Stripe."""


class Redirected(aiohttp.ClientError):
    """Something answered with another address. Stripe never does, and following would turn a POST into a GET."""


StripeFailure = (stripe.StripeError, aiohttp.ClientError, TimeoutError, OSError, UnexpectedAnswer)
"""What a call can raise. The client wraps most, but not an answer that breaks off in the middle."""


@asynccontextmanager
async def opened(config: StripeMeterConfig) -> AsyncIterator[stripe.StripeClient]:
    """A client for as long as the block lasts. No call is made yet."""
    stripe.enable_telemetry = False
    tls = ssl.create_default_context(cafile=stripe.ca_bundle_path)
    redirects = aiohttp.TraceConfig()
    redirects.on_request_redirect.append(_refuse_redirect)
    timeout = aiohttp.ClientTimeout(total=config.timeout.total_seconds())
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=30),
        trust_env=True,  # HTTPS_PROXY
        trace_configs=[redirects],
    ) as session:
        http: Any = stripe.AIOHTTPClient(timeout=timeout, session=session)
        client = stripe.StripeClient(
            config.api_key.get_secret_value(),
            base_addresses={
                "api": config.endpoints.api.rstrip("/"),
                "meter_events": config.endpoints.meter_events.rstrip("/"),
                "connect": config.endpoints.connect.rstrip("/"),
            },
            max_network_retries=0,
            http_client=http,
        )
        yield client


async def _refuse_redirect(_session: object, _context: object, redirect: aiohttp.TraceRequestRedirectParams) -> None:
    raise Redirected(f"redirected to {redirect.response.headers.get('Location')!r}; " + REMEDY)


REMEDY = "is exporters::stripe_meter::endpoints right, and is there a proxy in between?"


@contextmanager
def only_from_stripe() -> Iterator[None]:
    """Take answers in which something is missing that Stripe always says for what they are."""
    try:
        yield
    except (AttributeError, InvalidOperation, KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"the answer is not Stripe's ({type(error).__name__}: {error}); " + REMEDY) from error
