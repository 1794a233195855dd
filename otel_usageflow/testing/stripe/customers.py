"""Customers: `/v1/customers` (docs.stripe.com/api/customers)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from otel_usageflow.testing.stripe.clock import Clock
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


@dataclass(frozen=True, slots=True, eq=False)
class Customer:
    """One state of a customer; a change makes a new one."""

    id: str
    created: int
    place: int
    livemode: bool
    metadata: Mapping[str, str]
    email: str | None = None
    name: str | None = None
    phone: str | None = None
    description: str | None = None
    deleted: bool = False

    def render(self) -> JsonObject:
        """The customer object, or what is left of a deleted one."""
        if self.deleted:
            return {"id": self.id, "object": "customer", "deleted": True}
        return self.render_whole()

    def render_whole(self) -> JsonObject:
        """The customer object, as `customer.deleted` events show it."""
        return {
            "id": self.id,
            "object": "customer",
            "address": None,
            "balance": 0,
            "created": self.created,
            "currency": None,
            "default_source": None,
            "delinquent": False,
            "description": self.description,
            "discount": None,
            "email": self.email,
            "livemode": self.livemode,
            "metadata": dict(self.metadata),
            "name": self.name,
            "phone": self.phone,
            "preferred_locales": [],
            "shipping": None,
            "tax_exempt": "none",
            "test_clock": None,
        }


@dataclass(slots=True, eq=False)
class History:
    """The states that search may still see: the last one before the lag, and all after it."""

    versions: list[tuple[float, Customer]] = field(default_factory=list)

    def at(self, moment: float) -> Customer | None:
        """The customer as of `moment`, None before it existed."""
        return next((customer for changed, customer in reversed(self.versions) if changed <= moment), None)

    def add(self, changed: float, customer: Customer, visible: float) -> None:
        """Note a change; what changed before the last state at `visible` is forgotten."""
        while len(self.versions) > 1 and self.versions[1][0] <= visible:
            del self.versions[0]
        self.versions.append((changed, customer))


class Customers:
    """The customers of one account."""

    def __init__(self, clock: Clock, settings: Settings, log: EventLog, livemode: bool) -> None:
        self._clock, self._settings, self._log, self._livemode = clock, settings, log, livemode
        self.all: list[Customer] = []
        self.history: list[History] = []
        self._by_id: dict[str, int] = {}

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
        self._by_id[customer.id] = customer.place
        self.all.append(customer)
        self.history.append(History([(changed, customer)]))

    def find(self, identity: str) -> Customer:
        """The customer with this id, deleted ones too.

        Raises:
            StripeFailure: 404, there is none.
        """
        place = self._by_id.get(identity)
        if place is None:
            raise missing_resource("customer", identity)
        return self.all[place]

    def living(self, identity: str) -> Customer | None:
        """The customer with this id, unless it was deleted."""
        place = self._by_id.get(identity)
        return None if place is None or self.all[place].deleted else self.all[place]

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
        self.all[new.place] = new
        self.history[new.place].add(now, new, now - self._settings.search_lag)
        return new


def _merge(old: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    if not given:
        return {}
    return {key: value for key, value in {**old, **given}.items() if value}
