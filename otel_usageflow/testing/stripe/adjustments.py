"""`POST /v1/billing/meter_event_adjustments`: an event is taken back within 24 h of its receipt."""

from collections.abc import Mapping
from typing import Any

from otel_usageflow.testing.stripe.book import MeterEvent
from otel_usageflow.testing.stripe.failures import RefusedByState, StripeFailure
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.meter_events import Intake
from otel_usageflow.testing.stripe.params import EXPAND, Param, choice, shape, text
from otel_usageflow.testing.stripe.settings import DAY

CREATE = EXPAND | {
    "event_name": Param(text(100), required=True),
    "type": Param(choice("cancel"), required=True),
    "cancel": Param(shape(identifier=Param(text(100), required=True)), required=True),
}


def create(intake: Intake, params: Mapping[str, Any], livemode: bool) -> JsonObject:
    """Cancel an event: it counts no more.

    Whether the answer says `pending` or `complete` is a setting; either way the event counts no more, but summaries
    show that with their lag.

    Raises:
        StripeFailure: 400, no such event, too old, rejected, or cancelled before. Own wording; Stripe's is unknown.
    """
    identifier: str = params["cancel"]["identifier"]
    now, stored = intake.clock.now(), intake.settings.store_refusals
    event = intake.book.known(identifier, now - DAY)
    if not isinstance(event, MeterEvent) or event.event_name != params["event_name"]:
        raise _refused(f"No event with identifier {identifier} was received within the last 24 hours.", stored)
    if event in intake.book.cancelled:
        raise _refused(f"The event with identifier {identifier} was cancelled before.", stored)
    intake.book.cancel(event, now)
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": event.event_name,
        "livemode": livemode,
        "status": intake.settings.adjustment_status,
        "type": "cancel",
    }


def _refused(message: str, stored: bool) -> StripeFailure:
    return RefusedByState(400, message, param="cancel[identifier]", stored=stored)
