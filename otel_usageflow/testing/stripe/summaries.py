"""`/v1/billing/meters/ID/event_summaries`: the read-back of usage.

Source: docs.stripe.com/api/billing/meter-event-summary.

Every window of the range is listed, empty ones too, newest first; Stripe states neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from otel_usageflow.testing.stripe.aggregation import WINDOWS, aggregate
from otel_usageflow.testing.stripe.book import MeterEvent
from otel_usageflow.testing.stripe.failures import invalid, missing_resource
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.meter_events import Intake
from otel_usageflow.testing.stripe.meters import Meter
from otel_usageflow.testing.stripe.paging import page
from otel_usageflow.testing.stripe.params import PAGING, Param, choice, integer, text

LIST = PAGING | {
    "customer": Param(text(), required=True),
    "start_time": Param(integer(0), required=True),
    "end_time": Param(integer(0), required=True),
    "value_grouping_window": Param(choice(*WINDOWS)),
}
MOST_WINDOWS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """One window."""

    meter: Meter
    start: int
    end: int
    value: Decimal
    place: int

    @property
    def created(self) -> int:
        """Its start, for the order of the list."""
        return self.start

    @property
    def id(self) -> str:
        """The same for the same window of the same meter."""
        return f"mtrusg_{self.meter.id[-14:]}{self.start:x}_{self.end:x}"

    def render(self) -> JsonObject:
        """The summary object; its value is a float, as Stripe's is."""
        whole = self.value == self.value.to_integral_value()
        return {
            "id": self.id,
            "object": "billing.meter_event_summary",
            "aggregated_value": int(self.value) if whole else float(self.value),
            "end_time": self.end,
            "livemode": self.meter.livemode,
            "meter": self.meter.id,
            "start_time": self.start,
        }


def list_summaries(intake: Intake, meter_id: str, params: Mapping[str, Any]) -> JsonObject:
    """One list of windows for one customer, start inclusive, end exclusive.

    Raises:
        StripeFailure: bounds that are not multiples of 60, 3600 or 86400 s, as the window needs; an unknown meter
            or customer.
    """
    meter = intake.meters.find(meter_id)
    start, end = params["start_time"], params["end_time"]
    grouping = params.get("value_grouping_window")
    _check_bounds(start, end, WINDOWS[grouping] if grouping else 60)
    customer = intake.customers.find(params["customer"])
    size = WINDOWS[grouping] if grouping else end - start
    if (end - start) // size > MOST_WINDOWS:
        raise invalid("The range is too long.", "end_time")
    visible = intake.clock.now() - intake.settings.summary_lag
    windows: dict[int, list[MeterEvent]] = {}
    for event in intake.book.as_of(meter, customer.id, visible):
        if start <= event.timestamp < end:
            windows.setdefault((event.timestamp - start) // size, []).append(event)
    summaries = [
        Summary(meter, at, at + size, aggregate(meter, windows.get(place, ())), place)
        for place, at in enumerate(range(start, end, size))
    ]
    by_id = {summary.id: summary for summary in summaries}

    def find(identity: str) -> Summary:
        if identity not in by_id:
            raise missing_resource("billing meter event summary", identity)
        return by_id[identity]

    return page(f"/v1/billing/meters/{meter.id}/event_summaries", summaries, params, find)


def _check_bounds(start: int, end: int, unit: int) -> None:
    for name, moment in (("start_time", start), ("end_time", end)):
        if moment % unit:
            raise invalid(f"{name} must be a multiple of {unit} seconds.", name)
    if end <= start:
        raise invalid("end_time must be after start_time.", "end_time")
