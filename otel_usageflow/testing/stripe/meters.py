"""`/v1/billing/meters` (docs.stripe.com/api/billing/meter): no delete, and no reuse of an event name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.event_log import EventLog
from otel_usageflow.testing.stripe.failures import RefusedByState, missing_resource
from otel_usageflow.testing.stripe.ids import new_id
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.paging import page
from otel_usageflow.testing.stripe.params import EXPAND, PAGING, Param, choice, shape, text

_KEY = Param(text(100), required=True)
CREATE = EXPAND | {
    "display_name": Param(text(250), required=True),
    "event_name": Param(text(100), required=True),
    "default_aggregation": Param(shape(formula=Param(choice("sum", "count", "last"), required=True)), required=True),
    "customer_mapping": Param(
        shape(event_payload_key=_KEY, type=Param(choice("by_id"), required=True)), required=False
    ),
    "value_settings": Param(shape(event_payload_key=_KEY)),
    "event_time_window": Param(choice("hour", "day")),
}
UPDATE = EXPAND | {"display_name": Param(text(250))}
LIST = PAGING | {"status": Param(choice("active", "inactive"))}
RETRIEVE = DEACTIVATE = REACTIVATE = EXPAND


@dataclass(slots=True, eq=False)
class Meter:
    """One meter; only its display name and its status ever change."""

    id: str
    event_name: str
    display_name: str
    formula: str
    customer_key: str
    value_key: str
    event_time_window: str | None
    created: int
    updated: int
    place: int
    livemode: bool
    deactivated_at: int | None = None

    @property
    def active(self) -> bool:
        """Whether it takes events."""
        return self.deactivated_at is None

    def render(self) -> JsonObject:
        """The meter object."""
        return {
            "id": self.id,
            "object": "billing.meter",
            "created": self.created,
            "customer_mapping": {"event_payload_key": self.customer_key, "type": "by_id"},
            "default_aggregation": {"formula": self.formula},
            "display_name": self.display_name,
            "event_name": self.event_name,
            "event_time_window": self.event_time_window,
            "livemode": self.livemode,
            "status": "active" if self.active else "inactive",
            "status_transitions": {"deactivated_at": self.deactivated_at},
            "updated": self.updated,
            "value_settings": {"event_payload_key": self.value_key},
        }


class Meters:
    """The meters of one account."""

    def __init__(self, clock: Clock, log: EventLog, livemode: bool) -> None:
        self._clock, self._log, self._livemode = clock, log, livemode
        self.all: list[Meter] = []
        self._by_id: dict[str, Meter] = {}
        self._by_name: dict[str, Meter] = {}

    def create(self, params: Mapping[str, Any]) -> Meter:
        """POST /v1/billing/meters; an event name is taken for good, by inactive meters too."""
        name = params["event_name"]
        if name in self._by_name:
            message = f"A meter with the event name {name} already exists."
            raise RefusedByState(400, message, param="event_name", stored=True)
        now = int(self._clock.now())
        meter = Meter(
            id=new_id("mtr_live" if self._livemode else "mtr_test", 24),
            event_name=name,
            display_name=params["display_name"],
            formula=params["default_aggregation"]["formula"],
            customer_key=params.get("customer_mapping", {}).get("event_payload_key", "stripe_customer_id"),
            value_key=params.get("value_settings", {}).get("event_payload_key", "value"),
            event_time_window=params.get("event_time_window"),
            created=now,
            updated=now,
            place=len(self.all),
            livemode=self._livemode,
        )
        self.restore(meter)
        self._log.add("billing.meter.created", meter.render())
        return meter

    def restore(self, meter: Meter) -> None:
        """Add a meter that exists already."""
        self.all.append(meter)
        self._by_id[meter.id] = self._by_name[meter.event_name] = meter

    def named(self, event_name: str) -> Meter | None:
        """The meter of an event name, active or not."""
        return self._by_name.get(event_name)

    def find(self, identity: str) -> Meter:
        """The meter with this id.

        Raises:
            StripeFailure: 404, there is none.
        """
        if identity not in self._by_id:
            raise missing_resource("billing meter", identity)
        return self._by_id[identity]

    def retrieve(self, identity: str, _params: Mapping[str, Any]) -> Meter:
        """GET /v1/billing/meters/ID."""
        return self.find(identity)

    def list(self, params: Mapping[str, Any]) -> JsonObject:
        """GET /v1/billing/meters."""
        status = params.get("status")

        def keep(meter: Meter) -> bool:
            return status is None or meter.active == (status == "active")

        return page("/v1/billing/meters", self.all, params, self.find, keep)

    def update(self, identity: str, params: Mapping[str, Any]) -> Meter:
        """POST /v1/billing/meters/ID: only the display name can change."""
        meter = self.find(identity)
        name = params.get("display_name", meter.display_name)
        if name != meter.display_name:
            previous = {"display_name": meter.display_name, "updated": meter.updated}
            meter.display_name, meter.updated = name, int(self._clock.now())
            self._log.add("billing.meter.updated", meter.render(), previous)
        return meter

    def deactivate(self, identity: str, _params: Mapping[str, Any]) -> Meter:
        """POST /v1/billing/meters/ID/deactivate: no more events are taken."""
        return self._switch(identity, active=False)

    def reactivate(self, identity: str, _params: Mapping[str, Any]) -> Meter:
        """POST /v1/billing/meters/ID/reactivate."""
        return self._switch(identity, active=True)

    def _switch(self, identity: str, *, active: bool) -> Meter:
        meter = self.find(identity)
        if meter.active == active:
            message = f"The meter {identity} is already {'active' if active else 'inactive'}."
            raise RefusedByState(400, message, stored=True)
        meter.updated = int(self._clock.now())
        meter.deactivated_at = None if active else meter.updated
        self._log.add(f"billing.meter.{'re' if active else 'de'}activated", meter.render())
        return meter
