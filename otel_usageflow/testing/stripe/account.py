"""One account in one mode: everything that Stripe keeps apart from other accounts and from the other mode."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from otel_usageflow.testing.stripe.allocation import Allocation
from otel_usageflow.testing.stripe.book import Book, MeterEvent
from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.connections import Connections
from otel_usageflow.testing.stripe.customers import Customers
from otel_usageflow.testing.stripe.error_reports import Reports
from otel_usageflow.testing.stripe.event_log import EventLog
from otel_usageflow.testing.stripe.failures import lock_timeout
from otel_usageflow.testing.stripe.idempotency import IdempotencyStore
from otel_usageflow.testing.stripe.message import Request
from otel_usageflow.testing.stripe.meter_events import Intake
from otel_usageflow.testing.stripe.meters import Meters
from otel_usageflow.testing.stripe.rate_limit import Limiter
from otel_usageflow.testing.stripe.rejections import Rejected, RejectRules
from otel_usageflow.testing.stripe.search import CustomerSearch
from otel_usageflow.testing.stripe.sessions import Sessions
from otel_usageflow.testing.stripe.settings import Settings
from otel_usageflow.testing.stripe.webhook_endpoints import Notice

LockKey = tuple[str, str]
"""(meter id, customer id)."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Two calls of one customer and meter were in flight at once, and the client was still waiting for the first."""

    account: str | None
    event_name: str
    customer: str
    first_request_id: str
    second_request_id: str


@dataclass(slots=True)
class Shared:
    """What all accounts of one double have in common."""

    clock: Clock
    settings: Settings
    accepted: list[MeterEvent]
    rejected: list[Rejected]
    violations: list[Violation]
    sessions: Sessions
    connections: Connections
    publish: Callable[[Notice], None]
    monotonic: Callable[[], float] = time.monotonic


class Account:
    """The state of one account (None: the key's own) in test or live mode."""

    def __init__(self, shared: Shared, name: str | None, livemode: bool) -> None:
        self.name, self.livemode = name, livemode
        self._violations = shared.violations
        self.sessions, self.connections = shared.sessions, shared.connections
        clock, settings = shared.clock, shared.settings
        self.log = EventLog(clock, settings, name, livemode, shared.publish)
        self.meters = Meters(clock, self.log, livemode)
        self.customers = Customers(clock, settings, self.log, livemode)
        self.search = CustomerSearch(clock, settings, self.customers)
        self.book = Book(shared.accepted, shared.rejected)
        self.reject_rules = RejectRules()
        self.reports = Reports(clock, settings, name, livemode, shared.publish)
        self.intake = Intake(
            clock, settings, self.meters, self.customers, self.book, self.reject_rules, self.reports, name, livemode
        )
        self.idempotency = IdempotencyStore()
        self.idempotency_v2 = IdempotencyStore()
        self.limiter = Limiter(settings, connected=name is not None, monotonic=shared.monotonic)
        self.allocation = Allocation(clock, settings)
        self.reads: Counter[str] = Counter()
        """GET calls that were let through, by path; ids in it are `*`."""
        self._in_flight: dict[LockKey, Request] = {}

    @contextmanager
    def hold(self, lock: LockKey | None, request: Request) -> Iterator[None]:
        """Be the only call in flight for a meter and a customer.

        Raises:
            StripeFailure: 429 `lock_timeout`. It counts as a violation only while the client of the other call still
                waits: nobody can know how long Stripe works on a call that was given up.
        """
        if lock is None:
            yield
            return
        other = self._in_flight.get(lock)
        if other is not None:
            if other.connected():
                name = self.meters.find(lock[0]).event_name
                self._violations.append(Violation(self.name, name, lock[1], other.id, request.id))
            raise lock_timeout()
        self._in_flight[lock] = request
        try:
            yield
        finally:
            del self._in_flight[lock]
