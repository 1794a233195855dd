"""Events in any order, late, twice or lost: the directory ends as Stripe is, and never guesses on the way there."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_usageflow.exporters.stripe_meter.customer_pages import Change, Customer
from otel_usageflow.exporters.stripe_meter.directory_changes import ASK, NOTHING, Changes, judged, relevant
from otel_usageflow.ledger.ledger import CustomerChange

FIELDS = ("account_id",)
NAMES = ("cus_1", "cus_2", "cus_3")
VALUES = ("", "acme", "beta")


class Truth:
    """Stripe: customers, and the events of what was done to them."""

    def __init__(self) -> None:
        self.customers: dict[str, Customer] = {}
        self.events: list[Change] = []
        self.read = 0

    def do(self, name: str, value: str | None, second: int) -> None:
        """Give a customer a value, or delete it with None."""
        if (old := self.customers.get(name)) is not None and old.deleted:
            return
        new = Customer(name, {}, deleted=True) if value is None else Customer(name, {"account_id": value})
        self.customers[name] = new
        self.events.append(Change(f"evt_{len(self.events)}", float(second), new))

    async def customer(self, _account: str, name: str) -> Customer:
        """As `StripeApi.customer`."""
        self.read += 1
        return self.customers[name]


class Kept:
    """The part of a ledger that is asked."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, str]] = {}

    async def known_customers(
        self, _account: str, _fields: Sequence[str], ids: Sequence[str]
    ) -> Mapping[str, Mapping[str, str]]:
        """As the ledger."""
        return {one: self.values.get(one, {}) for one in ids}

    async def apply_customers(
        self, _account: str, fields: Sequence[str], changes: Sequence[CustomerChange], _generation: int
    ) -> None:
        """As the ledger."""
        for change in changes:
            self.values[change.customer] = relevant(change.values or {}, fields)


actions = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from((*VALUES, None)), st.integers(0, 1)), min_size=1, max_size=12
)


@settings(max_examples=300)
@given(actions=actions, data=st.data())
def test_all_events_in_any_order_lead_to_the_truth(actions: list[tuple[str, Any, int]], data: st.DataObject) -> None:
    """Whatever the order, the batches and the repetitions: when all events have come, the directory is Stripe's."""
    truth, kept, second = Truth(), Kept(), 100
    for name, value, pause in actions:
        second += pause
        truth.do(name, value, second)
    events = data.draw(st.permutations(truth.events + data.draw(st.lists(st.sampled_from(truth.events), max_size=4))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=4)))
    changes = Changes(truth, kept, "")  # type: ignore[arg-type]

    async def deliver() -> None:
        for first, last in zip([0, *cuts], [*cuts, len(events)], strict=True):
            await changes.take(events[first:last], FIELDS, 1, 0.0)

    asyncio.run(deliver())
    now = {name: relevant(customer.metadata, FIELDS) for name, customer in truth.customers.items()}
    assert {name: values for name, values in kept.values.items() if values} == {k: v for k, v in now.items() if v}


@settings(max_examples=300)
@given(actions=actions, data=st.data())
def test_what_may_be_known_is_never_undone(actions: list[tuple[str, Any, int]], data: st.DataObject) -> None:
    """After a listing or a restart events from before may come: none makes the directory older than it is."""
    truth, kept, second = Truth(), Kept(), 100
    for name, value, pause in actions:
        second += pause
        truth.do(name, value, second)
    now = {name: relevant(customer.metadata, FIELDS) for name, customer in truth.customers.items()}
    kept.values = {name: dict(values) for name, values in now.items()}
    some = data.draw(st.lists(st.sampled_from(truth.events), max_size=6))
    asyncio.run(Changes(truth, kept, "").take(some, FIELDS, 1, float(second)))  # type: ignore[arg-type]
    assert {name: kept.values[name] for name in now} == now


def test_what_says_nothing_new_costs_no_read() -> None:
    """An event about something else than the followed fields is as good as none."""
    told = [Change("evt_1", 5.0, Customer("cus_1", {"account_id": "acme", "plan": "gold"}))]
    assert judged(told, {"account_id": "acme"}, FIELDS, newest=100.0) == NOTHING
    assert judged(told, {}, FIELDS, newest=100.0) == ASK
    assert judged(told, {}, FIELDS, newest=5.0) == ASK
    assert judged(told, {}, FIELDS, newest=4.0) == told[0].customer
