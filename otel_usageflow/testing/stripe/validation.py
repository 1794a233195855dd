"""What Stripe finds wrong with a meter event: at once as a 400, or later as a code in an error report.

Which of the two Stripe does is not settled (its documentation says later, others have seen the 400), so every problem
has both faces; `Settings.validation` picks. Texts of refusals were observed where any were seen; none of them carries
a `code`, because none was seen. Codes of reports: docs.stripe.com, recording-usage-api.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otel_usageflow.testing.stripe.customers import Customers
from otel_usageflow.testing.stripe.failures import RefusedByState, StripeFailure, invalid
from otel_usageflow.testing.stripe.meters import Meter, Meters
from otel_usageflow.testing.stripe.settings import DAY

OLDEST = 35 * DAY
NEWEST = 300
MOST_DIGITS = 15
_DECIMAL = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an event cannot count."""

    code: str
    """In an error report."""
    message: str
    """In an error report."""
    failure: StripeFailure
    """The answer where Stripe looks at once."""


def problem_of(
    meters: Meters, customers: Customers, params: Mapping[str, Any], now: float, *, stored: bool
) -> Problem | None:
    """The first thing that is wrong with an event: meter, customer key, value, timestamp, customer.

    Args:
        stored: whether an idempotency key replays a refusal that came from the account's state.
    """
    meter = meters.named(params["event_name"])
    if meter is None or not meter.active:
        return _no_meter(params["event_name"], meter, stored=stored)
    payload: Mapping[str, str] = params["payload"]
    customer = payload.get(meter.customer_key)
    if not customer:
        message = f"Customer mapping key {meter.customer_key} not found in payload."
        return _wrong("meter_event_no_customer_defined", message, "payload")
    return (
        _value_problem(meter, payload)
        or _age_problem(params.get("timestamp"), now)
        or (None if customers.living(customer) else _no_customer(customer, stored=stored))
    )


def _no_meter(event_name: str, meter: Meter | None, *, stored: bool) -> Problem:
    failure = RefusedByState(400, f'No active meter found for event name "{event_name}".', stored=stored)
    if meter is None:
        return Problem("no_meter", f"No meter was found matching event_name {event_name}.", failure)
    return Problem("archived_meter", f"The meter with event_name {event_name} is archived.", failure)


def _no_customer(customer: str, *, stored: bool) -> Problem:
    message = f"No such customer: '{customer}'"
    return Problem("meter_event_customer_not_found", message, RefusedByState(400, message, stored=stored))


def _wrong(code: str, message: str, param: str) -> Problem:
    return Problem(code, message, invalid(message, param))


def _value_problem(meter: Meter, payload: Mapping[str, str]) -> Problem | None:
    value = payload.get(meter.value_key)
    if value is None:
        if meter.formula == "count":
            return None
        return _wrong("meter_event_value_not_found", f"Value key {meter.value_key} not found in payload.", "payload")
    if not _DECIMAL.fullmatch(value):
        message = f"The value must be a number in plain digits, got {value!r}."
        return _wrong("meter_event_invalid_value", message, "payload")
    if len(value.lstrip("-0.").replace(".", "")) > MOST_DIGITS:
        message = f"The value can have at most {MOST_DIGITS} significant digits, got {value}."
        return _wrong("meter_event_value_too_many_digits", message, "payload")
    return None


def _age_problem(timestamp: int | None, now: float) -> Problem | None:
    oldest, newest = int(now) - OLDEST, int(now) + NEWEST
    if timestamp is not None and timestamp < oldest:
        message = (
            "The event timestamp cannot be more than 35 days in past. "
            f"Expected a timestamp greater than or equal to {oldest}."
        )
        return _wrong("timestamp_too_far_in_past", message, "timestamp")
    if timestamp is not None and timestamp > newest:
        message = (
            "The event timestamp cannot be in future by more than 5 minutes. "
            f"Expected a timestamp less than or equal to {newest}."
        )
        return _wrong("timestamp_in_future", message, "timestamp")
    return None
