"""Every call that we make to Stripe, on the async client of the `stripe` package.

The client makes one attempt only: retries are the sender's business, where they are visible and durable.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Literal, NamedTuple

import stripe
from pydantic import SecretStr

from otel_usageflow.delivery.pace import SEARCH
from otel_usageflow.exporters.stripe_meter.access import Access, PlatformAccess
from otel_usageflow.exporters.stripe_meter.answers import is_no_access, too_fast
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.customer_pages import (
    PAGE,
    Change,
    Customer,
    CustomerPage,
    change_page,
    changes_path,
    customer_of,
    customer_page,
    customers_path,
)
from otel_usageflow.exporters.stripe_meter.event_call import EventCall
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.limits import Paces
from otel_usageflow.exporters.stripe_meter.session import Session, session_of
from otel_usageflow.exporters.stripe_meter.wire import REMEDY, UnexpectedAnswer, client, only_from_stripe, way
from otel_usageflow.model.meter_event import MeterEvent

_REPORTS = ["v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"]


Grouping = Literal["hour", "day"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What one customer used under a meter from `start` (unix seconds) up to before `end`.

    Stripe tells a float, so a long `value` is right to about 15 digits only.
    """

    start: int
    end: int
    value: Decimal


class Look(NamedTuple):
    """What came of a cheap read that only asks whether it is allowed."""

    status: int
    said: str
    """Stripe's message, empty where it was let through."""
    date: str
    """The header `Date`: Stripe's time; empty where it is missing."""
    error: stripe.StripeError | None = None
    """What it was, where it was not let through."""

    @property
    def is_no_access(self) -> bool:
        """Whether the key has nothing to do with the account, rather than lacking a permission there."""
        return self.error is not None and is_no_access(self.error)


class StripeApi:
    """Stripe, seen from one exporter. `account` is empty for the key's own account everywhere."""

    def __init__(self, client: stripe.StripeClient, event_call: EventCall, access: Access, paces: Paces) -> None:
        self._client = client
        self._event_call = event_call
        self._access = access
        self._paces = paces
        self._v1 = client.v1

    async def create_meter_event(self, event: MeterEvent, meter: Meter) -> str:
        """Send a meter event; return the request id.

        Raises:
            StripeFailure: see `answers.py`.
        """
        payload = {
            **event.payload,
            meter.customer_key: event.customer,
            meter.value_key: event.value,
        }
        with only_from_stripe():
            said, request_id = await self._event_call.make(event, payload, self._access.v1(event.account))
            if said.get("object") != "billing.meter_event" and said.get("identifier") != event.identifier:
                raise UnexpectedAnswer("the answer is no meter event; " + REMEDY)
        return request_id

    async def create_session(self, account: str) -> Session:
        """A session of the stream for an account.

        Raises:
            StripeFailure: there is none. Source: `v2/billing-meter-stream`, `meter_event_session`.
        """
        async with self._turn(account, "meter_event_session", counts=False):
            made = await self._client.v2.billing.meter_event_session.create_async({}, self._access.v2(account))
            return session_of(made.to_dict())

    async def stream_events(self, token: SecretStr, events: Sequence[Mapping[str, Any]], key: str) -> str:
        """Send up to 100 meter events in one call, as their session's account; return the request id.

        Args:
            key: the idempotency key.

        Raises:
            StripeFailure: see `stream.py`. Source: `v2/billing-meter-stream`.
        """
        with only_from_stripe():
            answer = await self._client.raw_request_async(
                "post",
                "/v2/billing/meter_event_stream",
                base="meter_events",
                api_key=token.get_secret_value(),
                idempotency_key=key,
                events=events,
            )
            said = answer.data
            if not isinstance(said, dict) or (said and not str(said.get("object", "")).startswith("v2.")):
                raise UnexpectedAnswer("the answer is not the stream's empty object; " + REMEDY)
        return str(answer.request_id or "")

    async def cancel_meter_event(self, account: str, event_name: str, identifier: str, key: str) -> str:
        """Take a meter event back that Stripe received within the last 24 hours; `complete` or `pending`.

        Args:
            key: the idempotency key.

        Raises:
            StripeFailure: see `answers.cancellation_outcome`. Source: `billing/meter-event-adjustment/create`.
        """
        async with self._turn(account, "meter_event_adjustments", counts=False):
            answer = await self._v1.billing.meter_event_adjustments.create_async(
                {"event_name": event_name, "type": "cancel", "cancel": {"identifier": identifier}},
                self._access.v1(account, idempotency_key=key),
            )
            said = answer.to_dict()
            if said.get("object") != "billing.meter_event_adjustment":
                raise UnexpectedAnswer("the answer is no meter event adjustment; " + REMEDY)
            return str(said["status"])

    async def meters(self, account: str) -> list[Meter]:
        """All meters, inactive ones too."""
        found: list[Meter] = []
        after: dict[str, str] = {}
        while True:
            params: Any = {"limit": PAGE, **after}
            async with self._turn(account, "meters"):
                page = await self._v1.billing.meters.list_async(params, self._access.v1(account))
                found.extend(_meter(item.to_dict()) for item in page.data)
            if not page.has_more or not page.data:
                return found
            after = {"starting_after": page.data[-1].id}

    async def create_meter(self, account: str, event_name: str) -> Meter:
        """Make a meter that sums, with Stripe's default payload keys. An event name is taken only once.

        Raises:
            StripeFailure: it was not made, or nobody knows. Source: `billing/meter/create`.
        """
        async with self._turn(account, "meters", counts=False):
            made = await self._v1.billing.meters.create_async(
                {
                    "display_name": event_name,
                    "event_name": event_name,
                    "default_aggregation": {"formula": "sum"},
                    "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                    "value_settings": {"event_payload_key": "value"},
                },
                self._access.v1(account),
            )
            return _meter(made.to_dict())

    async def summaries(
        self, account: str, meter_id: str, customer: str, start: int, end: int, grouping: Grouping | None
    ) -> AsyncIterator[list[Summary]]:
        """What a customer used under a meter from `start` up to before `end`, page by page, in any order.

        Bounds are unix seconds, multiples of 60, or of 3,600 or 86,400 with a grouping (reference:
        `billing/meter-event-summary/list`). Every page is a read of its own.
        """
        params: Any = {"customer": customer, "start_time": start, "end_time": end, "limit": PAGE}
        if grouping is not None:
            params["value_grouping_window"] = grouping
        while True:
            async with self._turn(account, "event_summaries"):
                page = await self._v1.billing.meters.event_summaries.list_async(
                    meter_id, params, self._access.v1(account)
                )
                summaries = [_summary(item.to_dict()) for item in page.data]
            yield summaries
            if not page.has_more or not page.data:
                return
            params = {**params, "starting_after": page.data[-1].id}

    async def error_reports(self, account: str, since: str) -> AsyncIterator[list[Mapping[str, Any]]]:
        """Error reports about meter events since a moment (RFC 3339), page by page, newest first; maybe thin."""
        options = self._access.v2(account)
        params: Any = {"types": _REPORTS, "created": {"gte": since}, "limit": PAGE}
        async with self._turn(account, "core_events"):
            page: Any = await self._client.v2.core.events.list_async(params, options)
        while True:
            with only_from_stripe():
                reports, following = [item.to_dict() for item in page.data], page.next_page_url
            yield reports
            if not following:
                return
            async with self._turn(account, "core_events"):
                answer = await self._client.raw_request_async("get", following, **options)
                page = self._client.deserialize(answer, api_mode="V2")

    async def error_report(self, account: str, report: str) -> Mapping[str, Any]:
        """One error report with its data."""
        async with self._turn(account, "core_event"):
            event = await self._client.v2.core.events.retrieve_async(report, None, self._access.v2(account))
            facts: Mapping[str, Any] = event.to_dict()
        return facts

    async def look(self, account: str, path: str) -> Look:
        """Read something, and tell only whether that is allowed.

        Raises:
            StripeFailure: there was no answer.
        """
        options = self._access.v2(account) if path.startswith("/v2/") else self._access.v1(account)
        try:
            async with self._turn(account, path):
                answer = await self._client.raw_request_async("get", path, **options)
            return Look(answer.code, "", str(answer.headers.get("Date") or ""))
        except stripe.APIConnectionError:
            raise
        except stripe.StripeError as error:
            said = str(error.user_message or error)
            return Look(error.http_status or 0, said, str((error.headers or {}).get("Date") or ""), error)

    async def customers(self, account: str, after: str = "", until: int = 0) -> CustomerPage:
        """A page of customers, newest first: older than one, or made until a moment (unix seconds), or all."""
        async with self._turn(account, "customers"):
            answer = await self._client.raw_request_async(
                "get", customers_path(after, until), **self._access.v1(account)
            )
            return customer_page(json.loads(answer.body))

    async def changes(self, account: str, since: int) -> AsyncIterator[Sequence[Change]]:
        """The `customer.*` events since a moment (unix seconds, Stripe's clock), page by page, newest first."""
        after = ""
        while True:
            async with self._turn(account, "events"):
                answer = await self._client.raw_request_async(
                    "get", changes_path(since, after), **self._access.v1(account)
                )
                page = change_page(json.loads(answer.body))
            yield page.changes
            if not page.more:
                return
            after = page.changes[-1].id

    async def customer(self, account: str, customer: str) -> Customer:
        """One customer as it is now."""
        try:
            async with self._turn(account, "customer"):
                found = await self._v1.customers.retrieve_async(customer, None, self._access.v1(account))
                return customer_of(found.to_dict())
        except stripe.InvalidRequestError as error:
            if error.http_status == 404:
                return Customer(customer, {}, deleted=True)
            raise

    async def search_customers(self, account: str, field: str, value: str) -> Sequence[str]:
        """Ids of customers whose metadata field may have this value: late and case-insensitive, so check again."""
        query = f'metadata["{_quoted(field)}"]:"{_quoted(value)}"'
        params: Any = {"query": query, "limit": PAGE}
        async with self._turn(account, SEARCH):
            page = await self._v1.customers.search_async(params, self._access.v1(account))
            return [item.id for item in page.data]

    @asynccontextmanager
    async def _turn(self, account: str, endpoint: str, *, counts: bool = True) -> AsyncIterator[None]:
        """A call within the account's pace, which learns from what Stripe says of it. `counts`: as a read."""
        pace = self._paces.of(account)
        await pace.read(endpoint, counts=counts)
        try:
            with only_from_stripe():
                yield
        except stripe.StripeError as error:
            if error.http_status == 429:
                pace.refused(too_fast(error), endpoint)
            raise


@asynccontextmanager
async def connect(
    config: StripeMeterConfig, paces: Paces | None = None, access: Access | None = None
) -> AsyncIterator[StripeApi]:
    """Stripe, for as long as the block lasts. No call is made yet. `paces` are shared with who sends.

    Without `access`, the key acts for every account.
    """
    async with way(config) as http:
        event_call = EventCall(http, partial(client, config))
        yield StripeApi(client(config, http), event_call, access or PlatformAccess(), paces or Paces(config))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _summary(facts: Mapping[str, Any]) -> Summary:
    value = facts["aggregated_value"]
    return Summary(int(facts["start_time"]), int(facts["end_time"]), Decimal(repr(value)))


def _meter(facts: Mapping[str, Any]) -> Meter:
    return Meter(
        event_name=facts["event_name"],
        formula=facts["default_aggregation"]["formula"],
        active=facts["status"] == "active",
        event_time_window=facts.get("event_time_window"),
        customer_key=(facts.get("customer_mapping") or {}).get("event_payload_key") or "stripe_customer_id",
        value_key=(facts.get("value_settings") or {}).get("event_payload_key") or "value",
        id=facts["id"],
        display_name=str(facts.get("display_name") or ""),
    )
