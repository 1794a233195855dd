"""A whole service in the test's process whose policies are changed while it runs."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimal import minimal
from otlp_harness import post
from span_builder import http, payload, span

from otel_usageflow.component import Kind
from otel_usageflow.config.model import Config
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.service.difference import Difference
from otel_usageflow.service.service import Service
from otel_usageflow.testing.stripe import StripeDouble


def policy(**changes: Any) -> dict[str, Any]:
    """A policy for `POST /chat` by a header, with other keys."""
    return {
        "name": "chat",
        "endpoint": "POST /chat",
        "user": {"header": "x-account-id"},
        "customer": {"metadata_field": "account_id"},
        "event_name": "api_request",
    } | changes


def request(user: str | None = "acme", path: str = "/chat", **attributes: Any) -> bytes:
    """One export request with one request of now."""
    end = time.time_ns()
    found = http(path) | attributes | ({} if user is None else {"http.request.header.x-account-id": [user]})
    one = span(found, start=end - 1000, end=end)
    one.trace_id = end.to_bytes(16, "big")
    return payload(one)


@dataclass
class Reloading:
    """A running service."""

    service: Service
    stripe: StripeDouble
    directory: Path

    def config(self, *policies: Mapping[str, Any], **sets: str) -> Config:
        """The configuration with these policies; further keys as `--set`, with `__` for `::`."""
        return configuration(self.directory, self.stripe, *policies, **sets)

    async def reload(self, *policies: Mapping[str, Any], why: str = "a test", **sets: str) -> Difference:
        """Take up other policies."""
        return await self.service.reload(self.config(*policies, **sets), why)

    async def send(self, data: bytes) -> int:
        """Send an export request; return the status."""
        return (await post(self.service.components[Kind.RECEIVER, "otlp"], data)).status

    async def metrics(self) -> str:
        """The page of metrics."""
        return (await self.service.metrics.page()).written("")[0].decode()

    def audit(self) -> list[dict[str, Any]]:
        """The entries about settings that bill."""
        with closing(open_for_reading(self.directory)) as connection:
            return [
                {"actor": one.actor, "why": one.why, "before": json.loads(one.before), "after": json.loads(one.after)}
                for one in audit.entries(connection)
                if one.action == "configured"
            ]


def configuration(directory: Path, stripe: StripeDouble, *policies: Mapping[str, Any], **sets: str) -> Config:
    """collector_config/minimal.yaml with these policies."""
    defaults = {
        "exporters__stripe_meter__aggregation__window": "1s",
        "exporters__stripe_meter__retry_on_failure": "{initial_interval: 20ms, max_interval: 200ms}",
        "processors__usage_policy__policies": json.dumps(policies),
    }
    return minimal(directory, stripe, **defaults | sets)


@asynccontextmanager
async def reloading(
    directory: Path, stripe: StripeDouble, *policies: Mapping[str, Any], **sets: str
) -> AsyncIterator[Reloading]:
    """Run the service with these policies, `chat` by default, on a ledger in `directory`."""
    service = Service(configuration(directory, stripe, *(policies or (policy(),)), **sets))
    try:
        await service.start()
        yield Reloading(service, stripe, directory)
    finally:
        await service.stop()
