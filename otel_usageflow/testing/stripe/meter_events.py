"""`POST /v1/billing/meter_events`: what is taken, and what becomes of it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from otel_usageflow.testing.stripe.book import Book, MeterEvent
from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.customers import Customers
from otel_usageflow.testing.stripe.error_reports import Reports
from otel_usageflow.testing.stripe.failures import RefusedByState
from otel_usageflow.testing.stripe.meters import Meter, Meters
from otel_usageflow.testing.stripe.params import EXPAND, Param, integer, text, text_map
from otel_usageflow.testing.stripe.rejections import Rejected, RejectRules
from otel_usageflow.testing.stripe.settings import Settings
from otel_usageflow.testing.stripe.validation import Problem, problem_of

CREATE = EXPAND | {
    "event_name": Param(text(100), required=True),
    "payload": Param(text_map(100), required=True),
    "identifier": Param(text(100)),
    "timestamp": Param(integer()),
}


@dataclass(frozen=True, slots=True)
class Intake:
    """What one account needs to judge a meter event."""

    clock: Clock
    settings: Settings
    meters: Meters
    customers: Customers
    book: Book
    reject_rules: RejectRules
    reports: Reports
    account: str | None
    livemode: bool


def lock_of(intake: Intake, params: Mapping[str, Any]) -> tuple[str, str] | None:
    """What only one call at a time may work on: meter id and customer id; None where an event has not both.

    Raises:
        StripeFailure: 400, no active meter or no customer key, where that is judged at once.
    """
    meter = intake.meters.named(params["event_name"])
    customer = params["payload"].get(meter.customer_key) if meter is not None else None
    if meter is not None and meter.active and customer:
        return meter.id, customer
    if intake.settings.validation == "synchronous":
        problem = _problem(intake, params)
        assert problem is not None
        raise problem.failure
    return None


def create(intake: Intake, params: Mapping[str, Any], idempotency_key: str | None) -> MeterEvent | Rejected:
    """Take an event unless its identifier is known; it counts, or is rejected later.

    Raises:
        StripeFailure: 400 with Stripe's text.
    """
    settings, now = intake.settings, intake.clock.now()
    problem = _problem(intake, params)
    if problem is not None and settings.validation == "synchronous":
        raise problem.failure
    known = _known(intake, params, now)
    if known is None:
        return _take(intake, params, problem, idempotency_key)
    if settings.duplicates == "ignore":
        return known
    raise RefusedByState(
        400,
        f"An event already exists with identifier {params['identifier']}.",
        headers={"Stripe-Should-Retry": "false"},
        stored=settings.store_refusals,
    )


def take_later(intake: Intake, params: Mapping[str, Any], idempotency_key: str | None) -> None:
    """Take an event without a word; what is wrong with it stands in a report, unless its identifier is known."""
    if _known(intake, params, intake.clock.now()) is None:
        _take(intake, params, _problem(intake, params), idempotency_key)


def _known(intake: Intake, params: Mapping[str, Any], now: float) -> MeterEvent | Rejected | None:
    forgotten = now - intake.settings.identifier_memory
    intake.book.forget(forgotten)
    return intake.book.known(params["identifier"], forgotten) if "identifier" in params else None


def _take(
    intake: Intake, params: Mapping[str, Any], problem: Problem | None, idempotency_key: str | None
) -> MeterEvent | Rejected:
    """Count a new event, or reject it after its 200."""
    identifier = params.get("identifier") or str(uuid.uuid4())
    meter = intake.meters.named(params["event_name"])
    if problem is not None:
        event = _rejected(intake, meter, params, identifier, idempotency_key, problem.code, problem.message)
    else:
        assert meter is not None
        rule = intake.reject_rules.pick(meter.event_name, params["payload"][meter.customer_key])
        if rule is None:
            return count(intake, meter, params, identifier, idempotency_key)
        event = _rejected(intake, meter, params, identifier, idempotency_key, rule.code, rule.message)
        if rule.real and rule.code == "archived_meter":
            intake.meters.deactivate(meter.id, {})
        elif rule.real:
            intake.customers.delete(params["payload"][meter.customer_key], {})
    intake.book.reject(event)
    intake.reports.add(event)
    return event


def count(
    intake: Intake, meter: Meter, params: Mapping[str, Any], identifier: str, idempotency_key: str | None
) -> MeterEvent:
    """Count an event that is fine."""
    payload: Mapping[str, str] = params["payload"]
    now = intake.clock.now()
    extra = tuple(item for item in payload.items() if item[0] not in (meter.customer_key, meter.value_key))
    value = payload.get(meter.value_key)
    event = MeterEvent(
        identifier=identifier,
        meter=meter,
        customer=intake.customers.find(payload[meter.customer_key]).id,
        value_text=None if value is None else _same(value),
        timestamp=params.get("timestamp", int(now)),
        received=now,
        account=intake.account,
        idempotency_key=identifier if idempotency_key == identifier else idempotency_key,
        extra=_same_extra(extra) if extra else None,
    )
    intake.book.add(event)
    return event


@lru_cache(maxsize=4096)
def _same(text: str) -> str:
    """The same object for the same text, since a million events have few values."""
    return text


@lru_cache(maxsize=4096)
def _same_extra(items: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return dict(items)


def send_foreign(intake: Intake, event_name: str, customer: str, value: str, timestamp: int | None) -> MeterEvent:
    """Count an event as if a program that nobody here knows had sent it.

    Raises:
        ValueError: Stripe would not take it.
    """
    payload = {"stripe_customer_id": customer, "value": value}
    meter = intake.meters.named(event_name)
    if meter is not None:
        payload = {meter.customer_key: customer, meter.value_key: value}
    params: dict[str, Any] = {"event_name": event_name, "payload": payload}
    if timestamp is not None:
        params["timestamp"] = timestamp
    problem = _problem(intake, params)
    if problem is not None or meter is None:
        raise ValueError(f"Stripe would not take this event: {problem.message if problem else event_name}")
    event = count(intake, meter, params, f"foreign-{uuid.uuid4()}", None)
    intake.book.foreign.append(event)
    return event


def _rejected(
    intake: Intake,
    meter: Meter | None,
    params: Mapping[str, Any],
    identifier: str,
    idempotency_key: str | None,
    code: str,
    message: str,
) -> Rejected:
    now = intake.clock.now()
    return Rejected(
        identifier=identifier,
        event_name=params["event_name"],
        payload=params["payload"],
        timestamp=params.get("timestamp", int(now)),
        received=now,
        account=intake.account,
        livemode=intake.livemode,
        idempotency_key=idempotency_key,
        meter_id=None if meter is None or code == "no_meter" else meter.id,
        code=code,
        message=message,
        reserved=intake.settings.reserve_rejected,
    )


def _problem(intake: Intake, params: Mapping[str, Any]) -> Problem | None:
    stored = intake.settings.store_refusals
    return problem_of(intake.meters, intake.customers, params, intake.clock.now(), stored=stored)
