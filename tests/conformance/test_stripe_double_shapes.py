"""The double's parameters and objects against those of the real `stripe` package, so that neither drifts unseen."""

from collections.abc import Mapping
from typing import Any

import pytest
import stripe
from stripe import RequestOptions
from stripe import params as sdk_params
from stripe.params import billing as billing_params
from stripe.params.v2 import core as core_params

from otel_usageflow.testing.stripe import (
    ManualClock,
    StripeDouble,
    adjustments,
    connected_accounts,
    core_events,
    customers,
    event_log,
    meter_events,
    meters,
    search,
    summaries,
)
from otel_usageflow.testing.stripe.meter_events import create
from otel_usageflow.testing.stripe.params import Param


@pytest.mark.parametrize(
    ("ours", "theirs", "left_out"),
    [
        (meter_events.CREATE, billing_params.MeterEventCreateParams, set()),
        (adjustments.CREATE, billing_params.MeterEventAdjustmentCreateParams, set()),
        (meters.CREATE, billing_params.MeterCreateParams, set()),
        (meters.LIST, billing_params.MeterListParams, set()),
        (meters.UPDATE, billing_params.MeterUpdateParams, set()),
        (summaries.LIST, billing_params.MeterListEventSummariesParams, set()),
        (customers.CREATE, sdk_params.CustomerCreateParams, {"test_clock"}),
        (customers.LIST, sdk_params.CustomerListParams, {"test_clock"}),
        (search.SEARCH, sdk_params.CustomerSearchParams, set()),
        (event_log.LIST, sdk_params.EventListParams, set()),
        (core_events.LIST, core_params.EventListParams, set()),
        (connected_accounts.LIST, sdk_params.AccountListParams, set()),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_parameters_are_those_of_the_client(ours: Mapping[str, Param], theirs: Any, left_out: set[str]) -> None:
    """Every endpoint takes the parameters that the client can send, and no others; test clocks are left out."""
    assert set(ours) == set(theirs.__annotations__) - set(RequestOptions.__annotations__) - left_out


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        (stripe.billing.Meter, set()),
        (stripe.billing.MeterEvent, set()),
        (stripe.billing.MeterEventAdjustment, set()),
        (stripe.billing.MeterEventSummary, set()),
        (stripe.Customer, set()),
        (stripe.Event, set()),
        (stripe.Account, set()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_objects_have_only_fields_that_the_client_knows(kind: type[stripe.StripeObject], extra: set[str]) -> None:
    """No object of the double has a field that Stripe's has not, and the meter objects have all of them."""
    double = StripeDouble(clock=ManualClock())
    account = double.account()
    meter_id, customer = double.add_meter("api_request"), double.add_customer()
    payload = {"stripe_customer_id": customer, "value": "1"}
    event = create(account.intake, {"event_name": "api_request", "payload": payload}, None)
    day = int(double.clock.now()) // 86_400 * 86_400
    bounds = {"customer": customer, "start_time": day, "end_time": day + 86_400}
    summary = summaries.list_summaries(account.intake, meter_id, bounds)["data"][0]
    objects: dict[type, dict[str, Any]] = {
        stripe.billing.Meter: account.meters.find(meter_id).render(),
        stripe.billing.MeterEvent: event.render(),
        stripe.billing.MeterEventSummary: summary,
        stripe.billing.MeterEventAdjustment: adjustments.create(
            account.intake, {"event_name": "api_request", "cancel": {"identifier": event.identifier}}, livemode=False
        ),
        stripe.Customer: account.customers.find(customer).render(),
        stripe.Account: connected_accounts.own(None).render(),
        stripe.Event: account.log.entries[-1].render(),
    }
    known = {name for name in kind.__annotations__ if not name.startswith("_") and name != "OBJECT_NAME"}
    shown = set(objects[kind])
    assert shown - extra <= known
    if kind.__module__.startswith("stripe.billing"):
        assert known - {"deleted"} <= shown
