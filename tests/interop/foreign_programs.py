"""Foreign programs as processes: a Collector with its configuration, and senders that print how each batch ended."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prepare import COLLECTOR, JAVA, JS, Foreign

PATIENCE = 40.0
"""Seconds that anything here may take."""


def need(foreign: Foreign) -> Path:
    """Its folder; skips the test where it cannot be run."""
    if reason := foreign.missing():
        pytest.skip(reason)
    return foreign.folder


@dataclass
class Collector:
    """A Collector that can be killed and started again with the same configuration."""

    configs: tuple[Path, ...]
    log: Path
    listens: tuple[int, ...]
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it listens."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                str(need(COLLECTOR) / COLLECTOR.start),
                *(f"--config={config}" for config in self.configs),
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(PATIENCE):
            for port in self.listens:
                while not await _listens(port):
                    assert self.process.returncode is None, self.log.read_text()[-3000:]
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        assert self.process is not None
        self.process.terminate()
        async with asyncio.timeout(PATIENCE):
            assert await self.process.wait() == 0, self.log.read_text()[-3000:]

    async def says(self, text: str) -> None:
        """Wait until its log holds the text."""
        assert self.process is not None
        async with asyncio.timeout(PATIENCE):
            while text not in (log := self.log.read_text()):
                assert self.process.returncode is None, log[-3000:]
                await asyncio.sleep(0.05)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@asynccontextmanager
async def collector(directory: Path, config: str, *listens: int) -> AsyncIterator[Collector]:
    """Run a Collector with this configuration, which listens on these ports; its own metrics are off."""
    folder = directory / "collector"
    folder.mkdir()
    given, own = folder / "otelcol.yaml", folder / "own.yaml"
    given.write_text(config)  # as it is: it may be what a document says
    own.write_text("service: {telemetry: {metrics: {level: none}}}\n")
    running = Collector((given, own), folder / "otelcol.log", listens)
    await running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.returncode is None:
            await running.kill()


@asynccontextmanager
async def js(order: Mapping[str, Any]) -> AsyncIterator[asyncio.StreamReader]:
    """Run js/send.js; the lines that it prints."""
    folder = need(JS)
    async with _printing("node", str(folder / JS.start), json.dumps(order)) as lines:
        yield lines


@asynccontextmanager
async def java(*arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """Run java/Send.java; the lines that it prints."""
    folder = need(JAVA)
    path = f"{folder / JAVA.start}{os.pathsep}{folder / 'target/dependency'}/*"
    async with _printing("java", "-cp", path, "Send", *arguments) as lines:
        yield lines


@asynccontextmanager
async def _printing(*command: str) -> AsyncIterator[asyncio.StreamReader]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=inherited)
    assert process.stdout is not None
    try:
        yield process.stdout
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
