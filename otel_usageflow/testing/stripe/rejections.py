"""Meter events that were answered 200 and did not count: Stripe looked at them later, and said so in a report."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_usageflow.testing.stripe.message import JsonObject

CODES: Mapping[str, str] = {
    "archived_meter": "The meter is archived.",
    "meter_event_customer_not_found": "The customer was not found.",
    "meter_event_dimension_count_too_high": "The meter has too many combinations of dimensions.",
    "meter_event_invalid_value": "The value is not acceptable.",
    "meter_event_no_customer_defined": "The customer mapping key was not found in the payload.",
    "meter_event_value_not_found": "The value key was not found in the payload.",
    "meter_event_value_too_many_digits": "The value has more than 15 significant digits.",
    "missing_dimension_payload_keys": "A dimension key was not found in the payload.",
    "no_meter": "No meter was found matching the event_name.",
    "timestamp_in_future": "The timestamp is more than 5 minutes ahead.",
    "timestamp_too_far_in_past": "The timestamp is more than 35 days back.",
}
"""The codes that are documented, with messages of our own. The list is open: a test may use others."""


@dataclass(frozen=True, slots=True, eq=False)
class Rejected:
    """One event that was taken with a 200 and rejected afterwards; it is in no total and no summary."""

    identifier: str
    event_name: str
    payload: Mapping[str, str]
    timestamp: int
    received: float
    """By the double's clock."""
    account: str | None
    livemode: bool
    idempotency_key: str | None
    meter_id: str | None
    """None where no meter has the event name; its report is `no_meter_found` then."""
    code: str
    message: str
    reserved: bool
    """Whether its identifier stays taken."""

    def render(self) -> JsonObject:
        """The meter event object, as if it had counted."""
        return {
            "object": "billing.meter_event",
            "created": int(self.received),
            "event_name": self.event_name,
            "identifier": self.identifier,
            "livemode": self.livemode,
            "payload": dict(self.payload),
            "timestamp": self.timestamp,
        }


@dataclass(slots=True, eq=False)
class RejectRule:
    """Fine events that are to be rejected after their 200.

    Args:
        event_name: only events of this name; None for any.
        code: in the error report; one of `CODES`, or one that Stripe might add.
        times: how many events, None for ever.
        probability: of striking an event, decided by a generator with `seed`.
        customer: only events of this customer.
        real: change the account too, so that the code stays true: `meter_event_customer_not_found` deletes the
            customer, `archived_meter` deactivates the meter.
    """

    event_name: str | None
    code: str
    times: int | None = 1
    probability: float = 1.0
    seed: int = 0
    customer: str | None = None
    real: bool = False
    fired: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.real and self.code not in ("meter_event_customer_not_found", "archived_meter"):
            raise ValueError(f"`real` deletes a customer or archives a meter; it does not go with {self.code}")
        self._random = random.Random(self.seed)

    @property
    def message(self) -> str:
        """In the error report."""
        return CODES.get(self.code, "The event is not acceptable.")

    def strikes(self, event_name: str, customer: str) -> bool:
        """Whether it strikes this event; counts it if so."""
        if self.times is not None and self.fired >= self.times:
            return False
        if self.event_name not in (None, event_name) or self.customer not in (None, customer):
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        self.fired += 1
        return True


class RejectRules:
    """The rules of one account, in order; the first that strikes decides."""

    def __init__(self) -> None:
        self.all: list[RejectRule] = []

    def add(self, rule: RejectRule) -> RejectRule:
        """Add a rule behind those there are."""
        self.all.append(rule)
        return rule

    def clear(self) -> None:
        """Nothing that is fine is rejected any more."""
        self.all.clear()

    def pick(self, event_name: str, customer: str) -> RejectRule | None:
        """The rule that strikes this event, if any."""
        return next((rule for rule in self.all if rule.strikes(event_name, customer)), None)
