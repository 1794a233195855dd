"""What a customer's meter events add up to: formula and event time window (docs.stripe.com, meters/configure)."""

from collections.abc import Iterable
from decimal import Decimal, localcontext

from otel_usageflow.testing.stripe.book import MeterEvent
from otel_usageflow.testing.stripe.meters import Meter

WINDOWS = {"hour": 3_600, "day": 86_400}


def aggregate(meter: Meter, events: Iterable[MeterEvent]) -> Decimal:
    """The usage that `events` of one customer, in the order of their receipt, make under `meter`. Exact."""
    counting = list(events)
    if meter.event_time_window is not None:
        size = WINDOWS[meter.event_time_window]
        # Of a pre-aggregated window only what was received last counts.
        counting = list({event.timestamp // size: event for event in counting}.values())
    if meter.formula == "count":
        return Decimal(len(counting))
    if meter.formula == "last":
        latest = max(enumerate(counting), key=lambda item: (item[1].timestamp, item[0]), default=None)
        return Decimal(0) if latest is None else latest[1].value
    with localcontext(prec=200):
        return sum((event.value for event in counting), Decimal(0))
