"""Every call that we make to Stripe, on the async client of the `stripe` package.

The client makes one attempt only: retries are the sender's business, where they are visible and durable.
"""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import stripe

from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.model.meter_event import MeterEvent

StripeFailure = (stripe.StripeError, aiohttp.ClientError, TimeoutError, OSError)
"""What a call can raise. The client wraps most, but not an answer that breaks off in the middle."""

PAGE = 100
_CHANGES = ["customer.created", "customer.updated", "customer.deleted"]


@dataclass(frozen=True, slots=True)
class Customer:
    """What we use of a Stripe customer. A deleted one has no metadata."""

    id: str
    metadata: dict[str, str]
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One `customer.*` event. `created` is unix seconds by Stripe's clock."""

    id: str
    created: float
    customer: Customer


class StripeApi:
    """Stripe, seen from one exporter. `account` is empty for the key's own account everywhere."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self._v1 = client.v1

    async def create_meter_event(self, event: MeterEvent, meter: Meter) -> str:
        """Send a meter event; return the request id.

        Raises:
            StripeFailure: see `answers.py`.
            UnexpectedAnswer: something answered 200, but not Stripe.
        """
        payload = {
            **event.payload,
            meter.customer_key: event.customer,
            meter.value_key: event.value,
        }
        answer = await self._v1.billing.meter_events.create_async(
            {
                "event_name": event.event_name,
                "payload": payload,
                "identifier": event.identifier,
                "timestamp": event.timestamp,
            },
            _on(event.account, idempotency_key=event.idempotency_key),
        )
        if getattr(answer, "object", None) != "billing.meter_event":
            raise UnexpectedAnswer("the answer is no meter event; is exporters::stripe_meter::endpoints right?")
        response = answer.last_response
        return str(response.request_id or "") if response is not None else ""

    async def meters(self, account: str) -> list[Meter]:
        """All meters, inactive ones too."""
        found: list[Meter] = []
        after: dict[str, str] = {}
        while True:
            params: Any = {"limit": PAGE, **after}
            page = await self._v1.billing.meters.list_async(params, _on(account))
            found.extend(_meter(item) for item in page.data)
            if not page.has_more or not page.data:
                return found
            after = {"starting_after": page.data[-1].id}

    async def customers(self, account: str) -> AsyncIterator[list[Customer]]:
        """All customers, page by page, newest first."""
        after: dict[str, str] = {}
        while True:
            params: Any = {"limit": PAGE, **after}
            page = await self._v1.customers.list_async(params, _on(account))
            yield [_customer(item) for item in page.data]
            if not page.has_more or not page.data:
                return
            after = {"starting_after": page.data[-1].id}

    async def changes(self, account: str, since: int) -> AsyncIterator[list[Change]]:
        """The `customer.*` events since a moment (unix seconds, Stripe's clock), page by page, newest first."""
        after: dict[str, str] = {}
        while True:
            params: Any = {"limit": PAGE, "types": _CHANGES, "created": {"gte": since}, **after}
            page = await self._v1.events.list_async(params, _on(account))
            yield [
                Change(item.id, item.created, _customer(item.data.object, deleted=item.type == "customer.deleted"))
                for item in page.data
            ]
            if not page.has_more or not page.data:
                return
            after = {"starting_after": page.data[-1].id}

    async def customer(self, account: str, customer: str) -> Customer:
        """One customer as it is now."""
        try:
            return _customer(await self._v1.customers.retrieve_async(customer, None, _on(account)))
        except stripe.InvalidRequestError as error:
            if error.http_status == 404:
                return Customer(customer, {}, deleted=True)
            raise

    async def search_customers(self, account: str, field: str, value: str) -> Sequence[str]:
        """Ids of customers whose metadata field may have this value: late and case-insensitive, so check again."""
        query = f'metadata["{_quoted(field)}"]:"{_quoted(value)}"'
        params: Any = {"query": query, "limit": PAGE}
        page = await self._v1.customers.search_async(params, _on(account))
        return [item.id for item in page.data]


class UnexpectedAnswer(Exception):
    """Something answered that is not Stripe."""


@asynccontextmanager
async def connect(config: StripeMeterConfig) -> AsyncIterator[StripeApi]:
    """Stripe, for as long as the block lasts. No call is made yet."""
    stripe.enable_telemetry = False
    tls = ssl.create_default_context(cafile=stripe.ca_bundle_path)
    timeout = aiohttp.ClientTimeout(total=config.timeout.total_seconds())
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=30),
        trust_env=True,  # HTTPS_PROXY
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
        yield StripeApi(client)


def _on(account: str, **options: str) -> Any:
    return {**options, "stripe_account": account} if account else options


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _customer(item: Any, *, deleted: bool = False) -> Customer:
    facts = item.to_dict()
    if deleted or facts.get("deleted"):
        return Customer(facts["id"], {}, deleted=True)
    return Customer(facts["id"], dict(facts.get("metadata") or {}))


def _meter(item: Any) -> Meter:
    return Meter(
        event_name=item.event_name,
        formula=item.default_aggregation.formula,
        active=item.status == "active",
        event_time_window=getattr(item, "event_time_window", None),
        customer_key=item.customer_mapping.event_payload_key,
        value_key=item.value_settings.event_payload_key,
    )
