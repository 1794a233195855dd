"""Customers: `/v1/customers` (docs.stripe.com/api/customers)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from otel_usageflow.testing.stripe.bulk import Bulk, Roll
from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.customer import Customer, History
from otel_usageflow.testing.stripe.event_log import EventLog
from otel_usageflow.testing.stripe.failures import missing_resource
from otel_usageflow.testing.stripe.ids import new_id
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.paging import page
from otel_usageflow.testing.stripe.params import (
    EXPAND,
    PAGING,
    Param,
    anything,
    metadata,
    moments,
    text,
)
from otel_usageflow.testing.stripe.settings import Settings

_TEXTS = ("email", "name", "phone", "description")
_KEPT = (
    "address", "balance", "business_name", "cash_balance", "individual_name", "invoice_prefix", "invoice_settings",
    "next_invoice_sequence", "payment_method", "preferred_locales", "shipping", "source", "tax", "tax_exempt",
    "tax_id_data", "validate",
)  # fmt: skip
"""Parameters that have no meaning here: they are taken, and left out of the object."""

CREATE = UPDATE = (
    EXPAND
    | {name: Param(text(unset=True)) for name in _TEXTS}
    | {"metadata": Param(metadata)}
    | {name: Param(anything) for name in _KEPT}
)
LIST = PAGING | {"created": Param(moments), "email": Param(text())}
RETRIEVE = DELETE = EXPAND


class Customers:
    """The customers of one account."""

    def __init__(self, clock: Clock, settings: Settings, log: EventLog, livemode: bool) -> None:
        self._clock, self._settings, self._log, self._livemode = clock, settings, log, livemode
        self.all = Roll()
        self.history: dict[int, History] = {}
        """By place; without those that are as they were made in bulk."""

    def create(self, params: Mapping[str, Any]) -> Customer:
        """POST /v1/customers."""
        given = {key: value for key, value in params.get("metadata", {}).items() if value}
        texts = {name: params[name] for name in _TEXTS if name in params}
        customer = Customer(
            id=new_id("cus"),
            created=int(self._clock.now()),
            place=len(self.all),
            livemode=self._livemode,
            metadata=given,
            **texts,
        )
        self.restore(customer, self._clock.now())
        self._log.add("customer.created", customer.render())
        return customer

    def restore(self, customer: Customer, changed: float) -> None:
        """Add a customer that exists already."""
        self.all.put(customer)
        self.history[customer.place] = History([(changed, customer)])

    def create_many(
        self, count: int, field: str, value: str | Sequence[str], created: int | None, spread: int
    ) -> Bulk:
        """Make many at once, with one metadata field each; `/v1/events` tells of none of them.

        Raises:
            ValueError: the values do not suffice.
        """
        now = self._clock.now()
        first = int(now) - spread if created is None else created
        bulk = Bulk(len(self.all), count, field, value, first, spread, self._livemode, now)
        self.all.put_many(bulk)
        return bulk

    def at(self, place: int, moment: float) -> Customer | None:
        """A customer as of `moment`, None before it existed."""
        history = self.history.get(place)
        if history is not None:
            return history.at(moment)
        bulk = self.all.bulk_at(place)
        return self.all[place] if bulk is not None and bulk.added <= moment else None

    def find(self, identity: str) -> Customer:
        """The customer with this id, deleted ones too.

        Raises:
            StripeFailure: 404, there is none.
        """
        place = self.all.place_of(identity)
        if place is None:
            raise missing_resource("customer", identity)
        return self.all[place]

    def living(self, identity: str) -> Customer | None:
        """The customer with this id, unless it was deleted."""
        place = self.all.place_of(identity)
        customer = None if place is None else self.all[place]
        return None if customer is None or customer.deleted else customer

    def retrieve(self, identity: str, _params: Mapping[str, Any]) -> Customer:
        """GET /v1/customers/ID: 200 for deleted ones too."""
        return self.find(identity)

    def list(self, params: Mapping[str, Any]) -> JsonObject:
        """GET /v1/customers: newest first, without deleted ones."""
        email = params.get("email")

        def keep(customer: Customer) -> bool:
            return not customer.deleted and (email is None or customer.email == email)

        return page("/v1/customers", self.all, params, self.find, keep)

    def update(self, identity: str, params: Mapping[str, Any]) -> Customer:
        """POST /v1/customers/ID: metadata is merged, an empty string removes."""
        old = self._must_live(identity)
        changes: dict[str, Any] = {
            name: params[name] for name in _TEXTS if name in params and params[name] != getattr(old, name)
        }
        previous: JsonObject = {name: getattr(old, name) for name in changes}
        merged = _merge(old.metadata, params["metadata"]) if "metadata" in params else old.metadata
        if merged != old.metadata:
            changed = {key for key in merged.keys() | old.metadata if merged.get(key) != old.metadata.get(key)}
            previous["metadata"] = {key: old.metadata.get(key) for key in sorted(changed)}
            changes["metadata"] = merged
        if not changes:
            return old
        new = self._replace(replace(old, **changes))
        self._log.add("customer.updated", new.render(), previous)
        return new

    def delete(self, identity: str, _params: Mapping[str, Any]) -> Customer:
        """DELETE /v1/customers/ID."""
        old = self._must_live(identity)
        gone = self._replace(replace(old, deleted=True))
        self._log.add("customer.deleted", old.render_whole())
        return gone

    def _must_live(self, identity: str) -> Customer:
        customer = self.find(identity)
        if customer.deleted:
            raise missing_resource("customer", identity)
        return customer

    def _replace(self, new: Customer) -> Customer:
        now = self._clock.now()
        history = self.history.get(new.place)
        if history is None:
            bulk = self.all.bulk_at(new.place)
            assert bulk is not None
            history = self.history[new.place] = History([(bulk.added, self.all[new.place])])
        self.all.put(new)
        history.add(now, new, now - self._settings.search_lag)
        return new


def _merge(old: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    if not given:
        return {}
    return {key: value for key, value in {**old, **given}.items() if value}
