"""The demo's own count of what it has sent, to be compared with Stripe's in the end."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from otel_usageflow.demo.cast import Customer
from otel_usageflow.demo.plan import Planned

Totals = dict[tuple[str, str], Decimal]
"""(customer's name, event name) -> quantity."""


@dataclass(slots=True)
class Tally:
    """Counts requests that were answered, by what the plan says of them."""

    sent: Counter[str] = field(default_factory=Counter)
    """By endpoint."""
    billable: Counter[str] = field(default_factory=Counter)
    """By endpoint: those of a customer, also of one who is not at Stripe yet."""
    quarantined: Counter[str] = field(default_factory=Counter)
    """Usage records by reason. A request that two policies bill is two."""
    surprises: list[str] = field(default_factory=list)
    """Requests that went otherwise than planned: then no count can be trusted."""
    _owed: Totals = field(default_factory=dict)
    _records: Counter[str] = field(default_factory=Counter)

    def add(self, request: Planned, status: int) -> None:
        """Count a request that was answered with this status."""
        self.sent[request.endpoint] += 1
        if status != request.status:
            self.surprises.append(f"{request.method} {request.path} answered {status}, not {request.status}")
            return
        if request.payer is None:
            if request.reason:
                self.quarantined[request.reason] += len(request.usage)
            return
        self.billable[request.endpoint] += 1
        self._records[request.payer.name] += len(request.usage)
        for event_name, quantity in request.usage.items():
            who = (request.payer.name, event_name)
            self._owed[who] = self._owed.get(who, Decimal(0)) + quantity

    def owed(self, customers: Iterable[Customer]) -> Totals:
        """What these customers should be billed for."""
        names = {customer.name for customer in customers}
        return {who: quantity for who, quantity in self._owed.items() if who[0] in names}

    def waiting(self, customers: Iterable[Customer]) -> Counter[str]:
        """Usage records that should be in quarantine, by reason, while only these are customers at Stripe."""
        names = {customer.name for customer in customers}
        unknown = sum(count for name, count in self._records.items() if name not in names)
        return +(self.quarantined + Counter(no_customer=unknown))
