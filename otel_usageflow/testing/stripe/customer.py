"""One customer, and the states in which search may still see it (docs.stripe.com/api/customers/object)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_usageflow.testing.stripe.message import JsonObject


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
