"""The meter events of one account: what was received, and what of it counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.meters import Meter
from otel_usageflow.testing.stripe.rejections import Rejected


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


class Book:
    """The meter events of one account.

    Args:
        accepted: where every event of the whole double that counts is appended in the order of arrival.
        rejected: likewise, those that were rejected after their 200.
    """

    def __init__(self, accepted: list[MeterEvent], rejected: list[Rejected]) -> None:
        self._accepted, self._rejected = accepted, rejected
        self._known: dict[str, MeterEvent | Rejected] = {}
        self._counted: dict[tuple[str, str], list[MeterEvent]] = {}
        self.cancelled: dict[MeterEvent, float] = {}
        """What was taken back by its sender, and when."""
        self.lost: list[MeterEvent] = []
        """What a test has let Stripe lose."""
        self.foreign: list[MeterEvent] = []
        """What a test has sent in the name of another program."""

    def add(self, event: MeterEvent) -> None:
        """Count an event."""
        self._accepted.append(event)
        self._known[event.identifier] = event
        self._counted.setdefault((event.meter.id, event.customer), []).append(event)

    def reject(self, event: Rejected) -> None:
        """Keep an event that does not count."""
        self._rejected.append(event)
        if event.reserved:
            self._known[event.identifier] = event

    def known(self, identifier: str, since: float) -> MeterEvent | Rejected | None:
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

    def as_of(self, meter: Meter, customer: str, moment: float) -> list[MeterEvent]:
        """What counted at `moment`, for a reader who lags behind; a cancelled event counts until its cancellation."""
        counted = [event for event in self.counted(meter, customer) if event.received <= moment]
        late = [
            event
            for event, at in self.cancelled.items()
            if event.received <= moment < at and (event.meter.id, event.customer) == (meter.id, customer)
        ]
        return sorted((*counted, *late), key=lambda event: event.received) if late else counted

    def customers(self) -> list[tuple[str, str]]:
        """(meter id, customer) of everybody who has used anything."""
        return list(self._counted)

    def cancel(self, event: MeterEvent, now: float) -> None:
        """Let an event count no more; its identifier stays taken."""
        self._counted[event.meter.id, event.customer].remove(event)
        self.cancelled[event] = now

    def lose(self, event: MeterEvent, *, forget: bool) -> None:
        """Drop an event as if it had never counted; its identifier is free again if `forget`."""
        self._counted[event.meter.id, event.customer].remove(event)
        self.lost.append(event)
        if forget and self._known.get(event.identifier) is event:
            del self._known[event.identifier]

    def find(
        self, event_name: str | None = None, customer: str | None = None, identifier: str | None = None
    ) -> list[MeterEvent]:
        """The events that count, of a meter, a customer or an identifier, in the order of receipt."""
        found = [
            event
            for events in self._counted.values()
            for event in events
            if event_name in (None, event.event_name)
            and customer in (None, event.customer)
            and identifier in (None, event.identifier)
        ]
        return sorted(found, key=lambda event: event.received)
