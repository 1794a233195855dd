"""The service as a process, for tests: a configuration for it, its log line by line, and connections to it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "otel_usageflow"]

CONFIG = """\
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:0"}
      http: {endpoint: "127.0.0.1:0"}
processors:
  usage_policy:
    policies:
      - name: chat
        endpoint: POST /v1/chat/completions
        user: {header: x-account-id}
        customer: {metadata_field: account_id}
        event_name: api_request
exporters:
  debug:
  stripe_meter:
    api_key: ${env:TEST_STRIPE_KEY}
    sending_queue: {storage: sqlite_storage}
extensions:
  sqlite_storage: {directory: "${env:TEST_DIRECTORY}"}
  health_check: {endpoint: "127.0.0.1:0"}
service:
  extensions: [sqlite_storage, health_check]
  pipelines:
    traces: {receivers: [otlp], processors: [usage_policy], exporters: [debug]}
  telemetry: {logs: {encoding: json}}
"""


def environment(directory: Path) -> dict[str, str]:
    """The environment that the configuration reads, with the ledger below `directory`."""
    return {**os.environ, "TEST_STRIPE_KEY": "sk_test_secret", "TEST_DIRECTORY": str(directory / "ledger")}


class Running:
    """The service as a process, with the lines of its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def line(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for a line of the log."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            while text := await self.process.stderr.readline():
                self.lines.append(json.loads(text))
                if self.lines[-1]["event"] == event and fields.items() <= self.lines[-1].items():
                    return self.lines[-1]
        raise AssertionError(f"no {event} in {self.lines}")

    async def ports(self) -> dict[str, int]:
        started = await self.line("started", component="receivers::otlp")
        await self.line("ready")
        return {name: int(started[name].rpartition(":")[2]) for name in ("grpc", "http")}

    async def end(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()


@asynccontextmanager
async def running(arguments: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
