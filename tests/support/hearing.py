"""An exporter that hears of changes by webhook, on a real admin listener."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from billing import CHAT, QuietHealth, batch

from otel_usageflow.component import Context
from otel_usageflow.config.types import HostPort
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.exporter import StripeMeterExporter
from otel_usageflow.extensions.admin import Admin, AdminConfig
from otel_usageflow.extensions.sqlite_storage import SqliteStorage, SqliteStorageConfig
from otel_usageflow.model.usage import Terms, UsageRecord
from otel_usageflow.testing.stripe import StripeDouble

SECRET = "whsec_of_the_tests"
PATH = "/stripe/webhook"


@dataclass
class Hearing:
    """A running exporter and where it hears."""

    exporter: StripeMeterExporter
    admin: Admin
    url: str

    async def bill(self, *records: UsageRecord) -> None:
        """Hand usage in."""
        await self.exporter.export(batch(*records))

    async def heard(self) -> dict[str, int]:
        """Deliveries by what became of them, but those of which there was none."""
        found = await self.measured("otel_usageflow_webhook_deliveries_total")
        return {labels["outcome"]: int(value) for labels, value in found if value}

    async def known(self, *customers: str) -> list[dict[str, str]]:
        """What the ledger's directory says of customers."""
        found = await self.exporter._ledger.known_customers("", ["account_id"], customers)
        return [dict(found[one]) for one in customers]

    async def measured(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The samples of a metric."""
        return [(dict(one.labels), one.value) for one in await self.exporter.measure() if one.name == name]


@asynccontextmanager
async def hearing(
    directory: Path, stripe: StripeDouble, terms: tuple[Terms, ...] = (CHAT,), **webhook: Any
) -> AsyncIterator[Hearing]:
    """An exporter with a webhook on a port of its own; `webhook` changes that section."""
    values = {
        "api_key": stripe.api_key,
        "endpoints": {"api": stripe.url, "meter_events": stripe.url, "connect": stripe.url},
        "aggregation": {"window": "1s", "max_window": "60s"},
        "retry_on_failure": {"initial_interval": "20ms", "max_interval": "200ms"},
        "sending_queue": {"storage": "sqlite_storage"},
        "customers": {"refresh": "10h"},
        "timeout": "2s",
        "webhook": {"admin": "admin/public", "path": PATH, "signing_secret": SECRET, **webhook},
    }
    health = QuietHealth()
    storage = SqliteStorage(
        SqliteStorageConfig(directory=directory), Context(id="sqlite_storage", health=health, extensions={})
    )
    admin = Admin(
        AdminConfig(endpoint=HostPort("127.0.0.1", 0)), Context(id="admin/public", health=health, extensions={})
    )
    async with storage, admin:
        extensions = {"sqlite_storage": storage, "admin/public": admin}
        context = Context(id="stripe_meter", health=health, extensions=extensions, terms=terms)
        async with StripeMeterExporter(StripeMeterConfig.model_validate(values), context) as exporter:
            yield Hearing(exporter, admin, f"http://127.0.0.1:{admin.address.port}{PATH}")
