"""Stripe as far as counting goes, for tests that need no HTTP."""

from collections import Counter
from dataclasses import dataclass, field

from otel_usageflow.ledger.charge import DAY, IDENTIFIER_MEMORY
from otel_usageflow.model.meter_event import MeterEvent


@dataclass
class Receiver:
    """Stripe as far as counting goes: an identifier counts once a day."""

    counted: Counter[str] = field(default_factory=Counter)
    """User -> what was counted. A customer's id begins with its user."""
    known: dict[str, float] = field(default_factory=dict)
    """Identifier -> when it was taken."""
    counting: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Identifier -> user and value, of what counts now."""

    def take(self, event: MeterEvent, now: float) -> None:
        """Process an attempt."""
        if now - self.known.get(event.identifier, -DAY) < IDENTIFIER_MEMORY:
            return
        self.known[event.identifier] = now
        user, value = event.customer.split("/")[0], int(event.value)
        self.counted[user] += value
        self.counting[event.identifier] = user, value

    def uncount(self, identifier: str) -> None:
        """Reject or cancel what was taken; the identifier stays reserved."""
        user, value = self.counting.pop(identifier)
        self.counted[user] -= value
