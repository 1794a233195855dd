"""The extension `health_check` over real HTTP."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from otlp_harness import FakeHealth

from otel_usageflow.component import Context
from otel_usageflow.errors import CannotListen
from otel_usageflow.extensions.health_check import FACTORY, HealthCheck, report


@asynccontextmanager
async def running(health: FakeHealth, **config: Any) -> AsyncIterator[HealthCheck]:
    """The extension on a free port."""
    parsed = FACTORY.config.model_validate({"endpoint": "127.0.0.1:0"} | config)
    async with FACTORY.build(parsed, Context("health_check", health, {})) as extension:
        yield extension


async def ask(extension: HealthCheck, path: str, method: str = "GET") -> tuple[int, Any]:
    """Status and JSON body of one request."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{extension.address}{path}") as answer,
    ):
        is_json = answer.content_type == "application/json" and method == "GET"
        return answer.status, await answer.json() if is_json else None


async def test_readiness_follows_the_problems() -> None:
    """`/` and `/readyz` are 200 when nobody has a problem, else 503 with the problems; `/livez` is always 200."""
    health = FakeHealth()
    async with running(health) as extension:
        for path in ("/", "/readyz", "/livez"):
            status, body = await ask(extension, path)
            assert (status, body["status"], body["problems"]) == (200, "Server available", {})
        health.report("service", "starting")
        for path, expected in (("/", 503), ("/readyz", 503), ("/livez", 200)):
            status, body = await ask(extension, path)
            assert (status, body["problems"]) == (expected, {"service": "starting"})
            assert body["status"] == "Server not available"
        health.report("service", None)
        assert (await ask(extension, "/"))[0] == 200


async def test_other_paths_and_methods() -> None:
    """404 and 405; HEAD is answered as GET."""
    async with running(FakeHealth()) as extension:
        assert (await ask(extension, "/health"))[0] == 404
        assert (await ask(extension, "/", "POST"))[0] == 405
        assert (await ask(extension, "/readyz", "HEAD"))[0] == 200


async def test_the_path_is_configurable() -> None:
    """`path` moves readiness; `/readyz` and `/livez` stay."""
    async with running(FakeHealth(), path="/health/status") as extension:
        statuses = [(await ask(extension, path))[0] for path in ("/health/status", "/readyz", "/livez", "/")]
    assert statuses == [200, 200, 200, 404]


async def test_an_occupied_port_stops_the_start() -> None:
    """The error names the place in the configuration and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        endpoint = f"127.0.0.1:{occupied.getsockname()[1]}"
        with pytest.raises(CannotListen, match=r"extensions::health_check::endpoint: .*Address already in use"):
            async with running(FakeHealth(), endpoint=endpoint):
                pass


async def test_the_port_is_given_back() -> None:
    """After the end nothing listens."""
    async with running(FakeHealth()) as extension:
        address = extension.address
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_the_report_says_since_when() -> None:
    """The Collector's keys: `upSince` in ISO 8601, `uptime` as a duration."""
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    body = report({}, since, since + timedelta(minutes=2, seconds=0.9))
    assert (body["upSince"], body["uptime"]) == ("2026-01-02T03:04:05+00:00", "2m")


@pytest.mark.parametrize("path", ["ready", "/livez"])
def test_paths_that_make_no_sense(path: str) -> None:
    """A path starts with a slash, and is not that of liveness."""
    with pytest.raises(ValueError, match="path"):
        FACTORY.config.model_validate({"path": path})
