"""`POST /v2/billing/meter_event_stream`: up to 100 meter events a call, all of them judged later.

The answer is an empty object whatever the events are; what is wrong with one stands in an error report, and one whose
identifier is known is dropped without a word, because no code for it is documented.
Source: docs.stripe.com/api/v2/billing-meter-stream.
"""

from collections.abc import Mapping
from typing import Any

from otel_usageflow.testing.stripe.failures import invalid
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.meter_events import Intake, take_later
from otel_usageflow.testing.stripe.moments import moment
from otel_usageflow.testing.stripe.params import Param, check, text, text_map

MOST = 100
"""Events in one call."""
PATH = "/v2/billing/meter_event_stream"
_EVENT = {
    "event_name": Param(text(100), required=True),
    "payload": Param(text_map(100), required=True),
    "identifier": Param(text(100)),
    "timestamp": Param(moment),
}


def _events(name: str, raw: Any) -> list[dict[str, Any]]:
    if not isinstance(raw, list) or not raw:
        raise invalid(f"{name} must be a list of meter events.", name)
    if len(raw) > MOST:
        raise invalid(f"{name} can have at most {MOST} meter events, got {len(raw)}.", name)
    events = []
    for place, one in enumerate(raw):
        if not isinstance(one, dict):
            raise invalid(f"{name}[{place}] must be a meter event.", name)
        events.append(check(_EVENT, one, f"{name}[{place}]"))
    return events


CREATE = {"events": Param(_events, required=True)}


def create(intake: Intake, params: Mapping[str, Any], idempotency_key: str | None) -> JsonObject:
    """Take a batch."""
    for event in params["events"]:
        values = event | ({"timestamp": int(event["timestamp"])} if "timestamp" in event else {})
        take_later(intake, values, idempotency_key)
    return {}
