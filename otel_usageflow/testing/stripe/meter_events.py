"""`POST /v1/billing/meter_events`: what is taken, what is refused, and the book of what counts.

Texts of refusals were observed where any were seen; none of them carries a `code`, because none was seen.
"""

import re
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.customers import Customers
from otel_usageflow.testing.stripe.failures import RefusedByState, invalid
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.meters import Meter, Meters
from otel_usageflow.testing.stripe.params import EXPAND, Param, integer, text, text_map
from otel_usageflow.testing.stripe.settings import DAY, Settings

OLDEST = 35 * DAY
NEWEST = 300
MOST_DIGITS = 15

CREATE = EXPAND | {
    "event_name": Param(text(100), required=True),
    "payload": Param(text_map(100), required=True),
    "identifier": Param(text(100)),
    "timestamp": Param(integer()),
}
_DECIMAL = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class MeterEvent:
    """One meter event that was accepted; a million of them fit in memory."""

    identifier: str
    meter: Meter
    customer: str
    value_text: str | None
    """As it was sent; None for a `count` meter whose event had no value."""
    timestamp: int
    received: float
    """By the double's clock."""
    account: str | None
    """The connected account, None for the key's own."""
    idempotency_key: str | None
    extra: Mapping[str, str] | None
    """Payload keys besides the customer and the value."""

    @property
    def event_name(self) -> str:
        """The meter's event name."""
        return self.meter.event_name

    @property
    def value(self) -> Decimal:
        """What the event adds, exactly; 1 for a `count` meter's event without a value."""
        return Decimal(1) if self.value_text is None else Decimal(self.value_text)

    @property
    def livemode(self) -> bool:
        """Whether a live key sent it."""
        return self.meter.livemode

    @property
    def payload(self) -> dict[str, str]:
        """The payload as it was sent, but for the order of its keys."""
        payload = {self.meter.customer_key: self.customer}
        if self.value_text is not None:
            payload[self.meter.value_key] = self.value_text
        return {**payload, **(self.extra or {})}

    def render(self) -> JsonObject:
        """The meter event object, which has no id."""
        return {
            "object": "billing.meter_event",
            "created": int(self.received),
            "event_name": self.event_name,
            "identifier": self.identifier,
            "livemode": self.livemode,
            "payload": self.payload,
            "timestamp": self.timestamp,
        }


@dataclass(frozen=True, slots=True)
class Intake:
    """What one account needs to judge a meter event."""

    clock: Clock
    settings: Settings
    meters: Meters
    customers: Customers
    book: "Book"
    account: str | None


class Book:
    """The meter events of one account.

    Args:
        accepted: where every event of the whole double is appended in the order of arrival.
    """

    def __init__(self, accepted: list[MeterEvent]) -> None:
        self._accepted = accepted
        self._known: dict[str, MeterEvent] = {}
        self._counted: dict[tuple[str, str], list[MeterEvent]] = {}
        self.cancelled: list[MeterEvent] = []

    def add(self, event: MeterEvent) -> None:
        """Count an event."""
        self._accepted.append(event)
        self._known[event.identifier] = event
        self._counted.setdefault((event.meter.id, event.customer), []).append(event)

    def known(self, identifier: str, since: float) -> MeterEvent | None:
        """The event of this identifier, if it was received after `since`."""
        event = self._known.get(identifier)
        return event if event is not None and event.received > since else None

    def forget(self, until: float) -> None:
        """Forget the identifiers of events received until then, so that they can be used again."""
        while self._known and (oldest := next(iter(self._known.values()))).received <= until:
            del self._known[oldest.identifier]

    def counted(self, meter: Meter, customer: str) -> list[MeterEvent]:
        """What counts for a customer, in the order of receipt."""
        return self._counted.get((meter.id, customer), [])

    def customers(self) -> list[tuple[str, str]]:
        """(meter id, customer) of everybody who has used anything."""
        return list(self._counted)

    def cancel(self, event: MeterEvent) -> None:
        """Let an event count no more; its identifier stays taken."""
        self._counted[event.meter.id, event.customer].remove(event)
        self.cancelled.append(event)


def meter_of(intake: Intake, params: Mapping[str, Any]) -> tuple[Meter, str]:
    """The meter and the customer id that an event names.

    Raises:
        StripeFailure: 400, no active meter or no customer key.
    """
    meter = intake.meters.named(params["event_name"])
    if meter is None or not meter.active:
        text_ = f'No active meter found for event name "{params["event_name"]}".'
        raise RefusedByState(400, text_, stored=intake.settings.store_refusals)
    customer = params["payload"].get(meter.customer_key)
    if not customer:
        raise invalid(f"Customer mapping key {meter.customer_key} not found in payload.", "payload")
    return meter, customer


def create(intake: Intake, params: Mapping[str, Any], idempotency_key: str | None) -> MeterEvent:
    """Judge an event, and count it unless its identifier is known.

    Raises:
        StripeFailure: 400 with Stripe's text.
    """
    meter, customer_id = meter_of(intake, params)
    payload = params["payload"]
    value = _value(meter, payload)
    now = intake.clock.now()
    timestamp = params.get("timestamp", int(now))
    _check_age(timestamp, now)
    stored = intake.settings.store_refusals
    customer = intake.customers.living(customer_id)
    if customer is None:
        raise RefusedByState(400, f"No such customer: '{customer_id}'", stored=stored)
    identifier = params.get("identifier") or str(uuid.uuid4())
    forgotten = now - intake.settings.identifier_memory
    intake.book.forget(forgotten)
    known = intake.book.known(identifier, forgotten)
    if known is not None:
        if intake.settings.duplicates == "ignore":
            return known
        raise RefusedByState(
            400,
            f"An event already exists with identifier {identifier}.",
            headers={"Stripe-Should-Retry": "false"},
            stored=stored,
        )
    extra = {sys.intern(k): v for k, v in payload.items() if k not in (meter.customer_key, meter.value_key)}
    event = MeterEvent(
        identifier=identifier,
        meter=meter,
        customer=customer.id,
        value_text=value,
        timestamp=timestamp,
        received=now,
        account=intake.account,
        idempotency_key=identifier if idempotency_key == identifier else idempotency_key,
        extra=extra or None,
    )
    intake.book.add(event)
    return event


def _value(meter: Meter, payload: Mapping[str, str]) -> str | None:
    value = payload.get(meter.value_key)
    if value is None and meter.formula == "count":
        return None
    if value is None:
        raise invalid(f"Value key {meter.value_key} not found in payload.", "payload")
    if not _DECIMAL.fullmatch(value):
        raise invalid(f"The value must be a number in plain digits, got {value!r}.", "payload")
    digits = len(value.lstrip("-0.").replace(".", ""))
    if digits > MOST_DIGITS:
        raise invalid(f"The value can have at most {MOST_DIGITS} significant digits, got {value}.", "payload")
    return value


def _check_age(timestamp: int, now: float) -> None:
    oldest, newest = int(now) - OLDEST, int(now) + NEWEST
    if timestamp < oldest:
        raise invalid(
            "The event timestamp cannot be more than 35 days in past. "
            f"Expected a timestamp greater than or equal to {oldest}.",
            "timestamp",
        )
    if timestamp > newest:
        raise invalid(
            "The event timestamp cannot be in future by more than 5 minutes. "
            f"Expected a timestamp less than or equal to {newest}.",
            "timestamp",
        )
