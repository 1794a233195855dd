"""An exporter that connects accounts, for tests: its configuration, commands beside it, visits to its callback."""

import asyncio
import contextlib
import io
import sys
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import structlog
import yaml
from billing import CHAT, QuietHealth, batch
from cryptography.fernet import Fernet

from otel_usageflow.cli import main
from otel_usageflow.component import Context
from otel_usageflow.components import registry
from otel_usageflow.config.load import load
from otel_usageflow.exporters.stripe_meter.exporter import StripeMeterExporter
from otel_usageflow.extensions.admin import Admin
from otel_usageflow.extensions.sqlite_storage import SqliteStorage
from otel_usageflow.extensions.sqlite_storage.connect.desk import ConnectionDesk
from otel_usageflow.ledger.connections import Connection
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.usage import Terms, UsageRecord
from otel_usageflow.testing.stripe import StripeDouble

CALLBACK = "https://billing.example/connect/callback"
HOST = "billing.example"
KEY = Fernet.generate_key().decode()


def written(directory: Path, stripe: StripeDouble, *, account: str = "acct_1", **connect: Any) -> Path:
    """A configuration file; `connect` changes that section, None takes a key out."""
    section = {
        "client_id": stripe.client_id(),
        "redirect_uri": CALLBACK,
        "admin": "admin",
        "encryption_key": KEY,
        **connect,
    }
    policy = {
        "name": "chat",
        "endpoint": "POST /v1/chat/completions",
        "user": {"header": "x-account-id"},
        "customer": {"metadata_field": "account_id"},
        "event_name": "api_request",
        "account": account,
    }
    exporter = {
        "api_key": stripe.api_key,
        "connect": {key: value for key, value in section.items() if value is not None},
        "endpoints": {"api": stripe.url, "meter_events": stripe.url, "connect": stripe.url},
        "aggregation": {"window": "1s", "max_window": "60s"},
        "retry_on_failure": {"initial_interval": "20ms", "max_interval": "200ms"},
        "customers": {"refresh": "1m"},
        "sending_queue": {"storage": "sqlite_storage"},
        "timeout": "2s",
    }
    tree = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": "127.0.0.1:0"}}}},
        "processors": {"usage_policy": {"policies": [policy]}},
        "exporters": {"stripe_meter": exporter},
        "extensions": {
            "sqlite_storage": {"directory": str(directory / "ledger")},
            "admin": {"endpoint": "127.0.0.1:0"},
        },
        "service": {
            "extensions": ["sqlite_storage", "admin"],
            "pipelines": {
                "traces": {"receivers": ["otlp"], "processors": ["usage_policy"], "exporters": ["stripe_meter"]}
            },
        },
    }
    path = directory / "usageflow.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


class Said(NamedTuple):
    """What a command said."""

    status: int
    out: str
    err: str


async def command(*arguments: str) -> Said:
    """Run a command in this process, beside whatever runs here."""

    def run() -> Said:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(arguments)
        return Said(status, out.getvalue(), err.getvalue())

    return await asyncio.to_thread(run)


class Page(NamedTuple):
    """What a browser is shown."""

    status: int
    text: str
    headers: dict[str, str]


@dataclass
class Connecting:
    """A running exporter with its admin extension."""

    config: Path
    exporter: StripeMeterExporter
    admin: Admin

    async def url(self, *more: str) -> str:
        """A link that `connect url` makes."""
        said = await command("connect", "url", "--config", str(self.config), *more)
        assert said.status == 0, said.err
        return said.out.strip()

    async def visit(self, back: str, host: str = HOST, method: str = "GET") -> Page:
        """Let a browser come back, through something that passes on its Host header."""
        query = urllib.parse.urlsplit(back).query
        address = f"http://127.0.0.1:{self.admin.address.port}/connect/callback?{query}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, address, headers={"Host": host}) as answer,
        ):
            headers = {str(name): value for name, value in answer.headers.items()}
            return Page(answer.status, await answer.text(), headers)

    async def bill(self, *records: UsageRecord) -> None:
        """Hand usage in; it is acknowledged when this returns."""
        await self.exporter.export(batch(*records))

    def connections(self, mode: str = "test") -> dict[str, Connection]:
        """What the ledger knows."""
        desk = ConnectionDesk(self.config.parent / "ledger", f"stripe_meter {mode}")
        return dict(desk.all()[0])


@asynccontextmanager
async def connecting(
    config: Path, terms: tuple[Terms, ...] | None = None, clock: SteadyClock | None = None
) -> AsyncIterator[Connecting]:
    """Run the exporter of a configuration, with its ledger and its admin extension."""
    read = load([str(config)], [], registry())
    health, clock = QuietHealth(), clock or SteadyClock()
    storage = SqliteStorage(
        read.extensions["sqlite_storage"].config,  # type: ignore[arg-type]
        Context("sqlite_storage", health, {}, clock=clock),
    )
    admin = Admin(read.extensions["admin"].config, Context("admin", health, {}))  # type: ignore[arg-type]
    terms = (IN_ACCOUNT,) if terms is None else terms
    # Commands run in this process, and what they print must not be mixed with the service's log.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    async with storage, admin:
        context = Context(
            "stripe_meter", health, {"sqlite_storage": storage, "admin": admin}, terms=terms, clock=clock
        )
        settings: Any = read.exporters["stripe_meter"].config
        async with StripeMeterExporter(settings, context) as exporter:
            yield Connecting(config, exporter, admin)


IN_ACCOUNT = Terms(policy="chat", event_name="api_request", metadata_field="account_id", account="acct_1")
OWN = CHAT


def files(config: Path) -> Iterator[tuple[str, bytes]]:
    """Every file beside a configuration, with what is in it."""
    for path in sorted(config.parent.rglob("*")):
        if path.is_file() and path != config:
            yield path.name, path.read_bytes()
