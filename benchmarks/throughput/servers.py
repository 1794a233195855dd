"""What is measured: the service with its ledger and a Stripe double, the empty gRPC server, and Rotel."""

import asyncio
import contextlib
import json
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from otel_usageflow.ledger.charge import first_key
from throughput.process import Watched, python, started
from throughput.spans import ENDPOINT, EVENT_NAME, FIELD

WINDOW = "10s"
CALLS = 20
"""Meter events a second: sending goes on beside the load, and takes little of it. The double shares the machine."""


@dataclass(slots=True)
class Server:
    """One that takes load."""

    name: str
    ports: dict[str, int]
    """Protocol -> port."""
    watched: Watched
    ledger: Path | None = None
    stripe: str = ""
    """The URL of the double that it sends to."""
    start: float = 0.0
    """Seconds from its start as a process until it was ready."""

    since: int = field(default_factory=lambda: int(time.time()))
    """When it was started, unix seconds."""

    def disk(self) -> tuple[int, int]:
        """(records of spans that ended since the start, bytes) of the ledger; counting all of them may take long."""
        if self.ledger is None:
            return 0, 0
        with contextlib.closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as connection:
            (records,) = connection.execute(
                "SELECT count(*) FROM records WHERE key >= ?", (first_key(self.since),)
            ).fetchone()
        return records, self.ledger.stat().st_size


@dataclass(frozen=True, slots=True)
class Sending:
    """How it sends to Stripe."""

    window: str = WINDOW
    calls: int = CALLS
    """A second, at most."""
    api: str = "v1"


def configuration(
    directory: Path, stripe: str, policies: int, sending: Sending, grpc: Mapping[str, Any]
) -> dict[str, Any]:
    """The service's configuration; policies beyond the first are for endpoints that nobody calls."""
    common = {
        "user": {"header": "x-account-id"},
        "customer": {"metadata_field": FIELD},
        "event_name": EVENT_NAME,
    }
    written = [{"name": "chat", "endpoint": f"POST {ENDPOINT}", **common}]
    written += [
        {"name": f"p{number}", "endpoint": f"POST /v1/other-{number}/:id", **common} for number in range(policies - 1)
    ]
    address = {"endpoint": "127.0.0.1:0"}
    return {
        "receivers": {"otlp": {"protocols": {"grpc": {**address, **grpc}, "http": address}}},
        "processors": {"usage_policy": {"policies": written}},
        "exporters": {
            "stripe_meter": {
                "api_key": "sk_test_double",
                "endpoints": dict.fromkeys(("api", "meter_events", "connect"), stripe),
                "api": sending.api,
                "aggregation": {"window": sending.window},
                "calls_per_second": sending.calls,
                "sending_queue": {"storage": "sqlite_storage"},
            }
        },
        "extensions": {"sqlite_storage": {"directory": str(directory / "ledger")}},
        "service": {
            "extensions": ["sqlite_storage"],
            "pipelines": {
                "traces": {"receivers": ["otlp"], "processors": ["usage_policy"], "exporters": ["stripe_meter"]}
            },
            "telemetry": {"logs": {"encoding": "json"}},
        },
    }


@contextlib.asynccontextmanager
async def service(
    users: int,
    policies: int = 1,
    directory: Path | None = None,
    launcher: list[str] | None = None,
    sending: Sending = Sending(),
    grpc: Mapping[str, Any] = MappingProxyType({}),
) -> AsyncIterator[Server]:
    """The service, ready, and the customers listed. `grpc` has further keys for that part of the receiver."""
    async with contextlib.AsyncExitStack() as stack:
        directory = directory or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stripe = await stack.enter_async_context(started(python("throughput.stripe_side", str(users))))
        config = directory / "config.yaml"
        url = await stripe.line()
        config.write_text(json.dumps(configuration(directory, url, policies, sending, grpc)))
        command = [*(launcher or []), *python("otel_usageflow", "--config", str(config))]
        log = stack.enter_context((directory / "log").open("w"))
        began = time.perf_counter()
        watched = await stack.enter_async_context(started(command, errors=log.fileno()))
        ports = await _ready(watched, directory / "log")
        took = time.perf_counter() - began
        ledger = directory / "ledger" / "ledger.db"
        await _listed(ledger)
        yield Server("otel-usageflow", ports, watched, ledger, url, took)


async def _ready(watched: Watched, log: Path) -> dict[str, int]:
    ports: dict[str, int] = {}
    async with asyncio.timeout(60):
        while True:
            for line in _lines(log):
                if not line.startswith("{"):
                    continue  # a mistake in the configuration, which ends the process
                told = json.loads(line)
                if told["event"] == "started" and told.get("component") == "receivers::otlp":
                    ports = {name: int(told[name].rpartition(":")[2]) for name in ("grpc", "http")}
                if told["event"] == "ready":
                    return ports
            if watched.process.returncode is not None:
                raise RuntimeError("\n".join(_lines(log)))
            await asyncio.sleep(0.02)


def _lines(log: Path) -> list[str]:
    return log.read_text().splitlines()


async def _listed(ledger: Path) -> None:
    async with asyncio.timeout(600):
        while True:
            with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
                if connection.execute("SELECT count(*) FROM directories WHERE listed_at > 0").fetchone() == (1,):
                    return
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def empty() -> AsyncIterator[Server]:
    """The gRPC server that answers nothing."""
    async with started(python("throughput.empty_server")) as watched:
        yield Server("empty gRPC server", {"grpc": int(await watched.line())}, watched)


def rotel_agent() -> Path | None:
    """The program, where `make bench` could install it; its wheels are for some platforms only."""
    found = sorted(Path(".venv-bench").glob("lib/python*/site-packages/rotel/rotel-agent"))
    return found[0] if found else None


@contextlib.asynccontextmanager
async def rotel(agent: Path) -> AsyncIterator[Server]:
    """Rotel, receiving into its black hole, which keeps nothing."""
    ports = {"grpc": _free_port(), "http": _free_port()}
    options = [f"--otlp-{name}-endpoint=127.0.0.1:{port}" for name, port in ports.items()]
    files = [f"--{name}-file={tempfile.gettempdir()}/rotel-bench.{name}" for name in ("pid", "log")]
    command = [str(agent), "start", *options, *files, "--exporter=blackhole"]
    async with started(command, errors=subprocess.DEVNULL) as watched:
        await _listening(ports["grpc"])
        yield Server("Rotel, black hole", ports, watched)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
