"""What tests of the ledger and the exporter share: usage by hand, and an exporter that talks to the double."""

import itertools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from otel_usageflow.component import Context
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.exporter import StripeMeterExporter
from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM, Rhythm
from otel_usageflow.extensions.sqlite_storage import SqliteStorage, SqliteStorageConfig
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.usage import Quantity, Reason, Terms, UsageBatch, UsageRecord
from otel_usageflow.testing.stripe import StripeDouble

_ids = itertools.count(1)

CHAT = Terms(policy="chat", event_name="api_request", metadata_field="account_id")
SECOND = 1_000_000_000


class QuietHealth:
    """A `Health` that remembers."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}

    def report(self, source: str, problem: str | None) -> None:
        """Take a report."""
        if problem is None:
            self.now.pop(source, None)
        else:
            self.now[source] = problem

    def problems(self) -> Mapping[str, str]:
        """All who have one now."""
        return self.now


def record(
    user: str | None = "acme",
    *,
    quantity: Quantity | None = 1,
    at: float | None = None,
    terms: Terms = CHAT,
    payload: tuple[tuple[str, str], ...] = (),
    reason: Reason | None = None,
    number: int | None = None,
) -> UsageRecord:
    """A usage record of a new span, or of the span with this number."""
    number = next(_ids) if number is None else number
    ended_ns = int((time.time() if at is None else at) * SECOND)
    return UsageRecord(
        trace_id=number.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        ended_ns=ended_ns,
        at_ns=ended_ns,
        terms=terms,
        user=user,
        source="header x-account-id",
        quantity=quantity,
        payload=payload,
        reason=reason,
    )


def batch(*records: UsageRecord) -> UsageBatch:
    """A batch with these records."""
    return UsageBatch(records=list(records), spans=len(records), requests=len(records))


@dataclass
class Billing:
    """A running exporter on a real ledger."""

    exporter: StripeMeterExporter
    storage: SqliteStorage

    async def bill(self, *records: UsageRecord) -> None:
        """Hand usage in; it is acknowledged when this returns."""
        await self.exporter.export(batch(*records))


@asynccontextmanager
async def billing(
    directory: Path,
    stripe: StripeDouble,
    terms: tuple[Terms, ...] = (CHAT,),
    *,
    clock: SteadyClock | None = None,
    rhythm: Rhythm = RHYTHM,
    **config: Any,
) -> AsyncIterator[Billing]:
    """An exporter with a ledger in `directory`, talking to the double; windows of a second, impatient retries.

    `clock` is the time of both, the real one by default; `rhythm` is how often the exporter looks back.
    """
    values = {
        "api_key": stripe.api_key,
        "endpoints": {"api": stripe.url, "meter_events": stripe.url, "connect": stripe.url},
        "aggregation": {"window": "1s", "max_window": "60s"},
        "retry_on_failure": {"initial_interval": "20ms", "max_interval": "200ms"},
        "customers": {"refresh": "1m"},
        "sending_queue": {"storage": "sqlite_storage"},
        "timeout": "2s",
        # As if Stripe had raised the sandbox's limit: tests of pacing say otherwise.
        "calls_per_second": 1_000,
        **config,
    }
    health, clock = QuietHealth(), clock or SteadyClock()
    storage = SqliteStorage(
        SqliteStorageConfig(directory=directory),
        Context(id="sqlite_storage", health=health, extensions={}, clock=clock),
    )
    async with storage:
        context = Context(
            id="stripe_meter", health=health, extensions={"sqlite_storage": storage}, terms=terms, clock=clock
        )
        async with StripeMeterExporter(StripeMeterConfig.model_validate(values), context, rhythm) as exporter:
            yield Billing(exporter, storage)


def total(stripe: StripeDouble, customer: str, event_name: str = "api_request") -> Decimal:
    """What the double has counted for a customer."""
    return stripe.total(event_name, customer)
