"""Everything that the screen shows, and nothing else: the story writes here, the screen reads."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from otel_usageflow.demo.books import Accepted
from otel_usageflow.demo.cast import CUSTOMERS, Bill, Customer
from otel_usageflow.demo.ledger_view import LedgerView
from otel_usageflow.demo.tally import Tally, Totals

KEPT_EVENTS = 200


@dataclass(slots=True)
class Scene:
    """The state of the demo."""

    duration: float
    """Seconds of traffic."""
    directory: Path
    tally: Tally = field(default_factory=Tally)
    customers: list[Customer] = field(default_factory=list)
    """Those who exist at Stripe."""
    began: float | None = None
    """Monotonic time of the first request."""
    ended: float | None = None
    news: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    """What happened, the latest last."""
    spans: int = 0
    """Acknowledged."""
    requests: int = 0
    """SERVER spans among them."""
    again: int = 0
    """Batches that were sent again."""
    crashes: int = 0
    events: deque[Accepted] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    event_count: int = 0
    billed: Totals = field(default_factory=dict)
    """What the Stripe double has counted."""
    reconciled: str = ""
    """What `reconcile` printed."""
    ledger: LedgerView = field(default_factory=LedgerView)
    listeners: list[Callable[[str], None]] = field(default_factory=list)
    """Who is told of news."""

    @property
    def elapsed(self) -> float:
        """Seconds of traffic so far."""
        if self.began is None:
            return 0.0
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    def tell(self, text: str) -> None:
        """Add a piece of news."""
        self.news.append(f"{time.strftime('%H:%M:%S')} {text}")
        for listener in self.listeners:
            listener(self.news[-1])

    def accept(self, events: list[Accepted]) -> None:
        """Add meter events."""
        self.events.extend(events)
        self.event_count += len(events)
        for event in events:
            who = (event.customer, event.event_name)
            self.billed[who] = self.billed.get(who, Decimal(0)) + event.value

    def bills(self) -> dict[str, Bill]:
        """What each customer owes by Stripe's count, also those who owe nothing yet."""
        bills = {customer.name: Bill() for customer in CUSTOMERS if customer in self.customers}
        for (name, event_name), quantity in self.billed.items():
            bills.setdefault(name, Bill()).quantities[event_name] = quantity
        return bills
