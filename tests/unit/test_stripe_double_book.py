"""What the double counts: exact sums, memory of identifiers, and a model of both."""

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.testing.stripe import ManualClock, StripeDouble
from otel_usageflow.testing.stripe.failures import StripeFailure
from otel_usageflow.testing.stripe.meter_events import create

DAY = 86_400
STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.decimals(-1_000, 1_000, places=4),
        st.integers(0, 2),
        st.integers(0, DAY),
    ),
    max_size=30,
)


@given(STEPS)
def test_the_book_agrees_with_a_model(steps: list[tuple[str, Decimal, int, int]]) -> None:
    """An identifier counts once in any 24 hours from its receipt, and sums are exact."""
    double = StripeDouble(clock=ManualClock(1_790_000_000))
    double.add_meter("api_request")
    customers = [double.add_customer() for _ in range(3)]
    intake = double.account().intake
    expected: Counter[str] = Counter()
    exact = dict.fromkeys(customers, Decimal(0))
    seen: dict[str, float] = {}
    for identifier, value, who, wait in steps:
        customer = customers[who]
        payload = {"stripe_customer_id": customer, "value": format(value, "f")}
        params = {"event_name": "api_request", "payload": payload, "identifier": identifier}
        now = double.clock.now()
        if identifier in seen and now - seen[identifier] < DAY:
            with pytest.raises(StripeFailure, match="already exists"):
                create(intake, params, None)
        else:
            create(intake, params, None)
            seen[identifier] = now
            expected[identifier] += 1
            exact[customer] += value
        double.clock.advance(wait)
    assert Counter(event.identifier for event in double.accepted) == expected
    assert {customer: double.total("api_request", customer) for customer in customers} == exact


def test_a_sum_of_many_sizes_is_exact() -> None:
    """Fifteen digits above and below the point are added without rounding."""
    double = StripeDouble()
    double.add_meter("api_request")
    customer = double.add_customer()
    for value in ("999999999999999", "0.000000000000001", "-0.5"):
        payload = {"stripe_customer_id": customer, "value": value}
        create(double.account().intake, {"event_name": "api_request", "payload": payload}, None)
    assert double.total("api_request", customer) == Decimal("999999999999998.500000000000001")


def test_a_count_meter_needs_no_value() -> None:
    """A `count` meter takes an event without a value; a `sum` meter does not."""
    double = StripeDouble()
    double.add_meter("hits", "count")
    double.add_meter("tokens")
    customer = double.add_customer()
    payload = {"stripe_customer_id": customer}
    create(double.account().intake, {"event_name": "hits", "payload": payload}, None)
    assert double.total("hits", customer) == 1
    with pytest.raises(StripeFailure, match="Value key value not found"):
        create(double.account().intake, {"event_name": "tokens", "payload": payload}, None)


def test_time_does_not_go_back() -> None:
    """A clock only advances."""
    with pytest.raises(ValueError, match="back"):
        ManualClock().advance(-1)


@given(
    st.lists(
        st.tuples(st.sampled_from(["good", "no customer", "no meter", "bad value"]), st.integers(0, 15)), max_size=30
    ),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_every_event_counts_or_is_reported(steps: list[tuple[str, int]], chance: float, samples: int) -> None:
    """What was taken either counts or stands in exactly one report, whose counts agree with its codes and samples."""
    double = StripeDouble(clock=ManualClock(1_790_000_000))
    double.settings.validation, double.settings.report_samples = "asynchronous", samples
    double.add_meter("api_request")
    customer = double.add_customer()
    double.reject("api_request", "archived_meter", times=None, probability=chance)
    for number, (kind, wait) in enumerate(steps):
        payload = {"stripe_customer_id": customer, "value": "1"}
        payload |= {"no customer": {"stripe_customer_id": "cus_x"}, "bad value": {"value": ""}}.get(kind, {})
        name = "other" if kind == "no meter" else "api_request"
        params = {"event_name": name, "payload": payload, "identifier": str(number)}
        create(double.account().intake, params, f"key-{number}")
        double.clock.advance(wait)
    double.clock.advance(10)
    taken = [event.identifier for event in (*double.accepted, *double.rejected)]
    assert sorted(taken, key=int) == [str(number) for number in range(len(steps))]
    assert double.total("api_request", customer) == len(double.accepted)
    reasons = [report["data"]["reason"] for report in double.reports()]
    assert sum(reason["error_count"] for reason in reasons) == len(double.rejected)
    for reason in reasons:
        kinds = reason["error_types"]
        assert reason["error_count"] == sum(kind["error_count"] for kind in kinds) > 0
        assert all(len(kind["sample_errors"]) == min(samples, kind["error_count"]) for kind in kinds)
