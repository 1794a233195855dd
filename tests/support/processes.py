"""The installed command and the double as processes, for tests that kill them."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONFIG = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
      http: {{endpoint: "127.0.0.1:{http}"}}
processors:
  usage_policy:
    policies:
      - name: chat
        endpoint: POST /v1/chat
        user: {{header: x-account-id}}
        customer: {{metadata_field: account_id}}
        event_name: api_request
        quantity: {{attribute: app.tokens}}
exporters:
  stripe_meter:
    api_key: sk_test_double
    endpoints: {{api: "{stripe}", meter_events: "{stripe}", connect: "{stripe}"}}
    aggregation: {{window: {window}}}
    retry_on_failure: {{initial_interval: 50ms, max_interval: 1s}}
    timeout: 2s
    calls_per_second: 1000
    sending_queue: {{storage: sqlite_storage}}
extensions:
  sqlite_storage: {{directory: "{directory}"}}
  health_check: {{endpoint: "127.0.0.1:{health}"}}
service:
  extensions: [sqlite_storage, health_check]
  pipelines:
    traces: {{receivers: [otlp], processors: [usage_policy], exporters: [stripe_meter]}}
"""


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Double:
    """The Stripe double in a process of its own."""

    url: str

    async def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call its control API."""

        def call() -> Any:
            data = None if body is None else json.dumps(body).encode()
            with urllib.request.urlopen(f"{self.url}/_double/{path}", data, timeout=10) as answer:
                return json.loads(answer.read())

        return await asyncio.to_thread(call)

    async def totals(self, field: str = "account_id") -> dict[str, str]:
        """User -> total."""
        rows = (await self.ask("totals"))["data"]
        return {row["metadata"][field]: row["total"] for row in rows}


@asynccontextmanager
async def double(*arguments: str) -> AsyncIterator[Double]:
    """Run the double."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "otel_usageflow.testing.stripe", "--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    try:
        yield Double(url)
    finally:
        process.terminate()
        await process.communicate()


@dataclass
class Running:
    """The service as a process, which can be killed and started again on the same ports and ledger."""

    config: Path
    grpc: int
    http: int
    health: int
    log: Path = field(default_factory=lambda: Path(tempfile.mkstemp(suffix=".log")[1]))
    process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str, die_at: str = "") -> None:
        """Start it and wait until it is ready. `die_at`: a crash point of `model/crash_point.py`."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "otel_usageflow", "--config", str(self.config), *arguments),
                stderr=log,
                env={k: v for k, v in os.environ.items() if k != "STRIPE_API_KEY"}
                | ({"OTEL_USAGEFLOW_DIE_AT": die_at} if die_at else {}),
            )
        async with asyncio.timeout(20):
            while not await self.ready():
                if self.process.returncode is not None:
                    if die_at and self.process.returncode == -signal.SIGKILL:
                        return  # clients were faster than the question whether it is ready
                    raise AssertionError(f"exit {self.process.returncode}: {self.log.read_text()[-2000:]}")
                await asyncio.sleep(0.05)

    async def ready(self) -> bool:
        """Whether it says that it can take spans."""

        def ask() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.health}/readyz", timeout=2) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        return await asyncio.to_thread(ask)

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Ask it to stop; its exit status."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(with_signal)
        return await self.process.wait()

    def lines(self, event: str) -> list[str]:
        """The log lines of this event."""
        return [line for line in self.log.read_text().splitlines() if re.search(rf"\b{event}\b", line)]


@asynccontextmanager
async def service(directory: Path, stripe: Double, window: str = "1s") -> AsyncIterator[Running]:
    """Run the service on a ledger in `directory`."""
    ports = {"grpc": free_port(), "http": free_port(), "health": free_port()}
    config = directory / "usageflow.yaml"
    config.write_text(CONFIG.format(stripe=stripe.url, directory=directory / "ledger", window=window, **ports))
    running = Running(config, **ports)
    await running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.returncode is None:
            await running.kill()
        running.log.unlink(missing_ok=True)
