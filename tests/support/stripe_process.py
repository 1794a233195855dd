"""The Stripe double as a process of its own, for tests that steer it from outside."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import yaml

COMMAND = (sys.executable, "-m", "otel_usageflow.testing.stripe", "--port", "0")


@dataclass
class Running:
    """One process, its URL and what it printed."""

    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession
    url: str
    config: dict[str, Any]
    customers: list[str]

    async def control(self, method: str, path: str, /, **body: Any) -> dict[str, Any]:
        """One call of the control API."""
        async with self.session.request(method, f"{self.url}/_double/{path}", json=body or None) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def send(self, identifier: str, customer: str, value: str = "1") -> int:
        """Send a meter event; the status, or 0 when the connection broke."""
        body = {
            "event_name": "api_request",
            "identifier": identifier,
            "timestamp": str(int(time.time())),
            "payload[stripe_customer_id]": customer,
            "payload[value]": value,
        }
        headers = {"Authorization": "Bearer sk_test_own"}
        path = f"{self.url}/v1/billing/meter_events"
        try:
            async with self.session.post(path, data=body, headers=headers) as answer:
                return answer.status
        except aiohttp.ClientConnectionError:
            return 0


@asynccontextmanager
async def running(*args: str) -> AsyncIterator[Running]:
    """Start the double on a free port; end it with SIGTERM, which must be a clean end."""
    command = (*COMMAND, "--api-key", "sk_test_own", *args)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            url = (await process.stdout.readline()).decode().strip()
            await process.stdout.readline()
            printed = [(await process.stdout.readline()).decode() for _ in range(7)]
            await process.stdout.readline()
            customers = []
            for _ in range(1 + args.count("--customer")):
                words = (await process.stdout.readline()).decode().split()
                if words[0] == "customer":
                    customers.append(words[1])
            yield Running(process, session, url, yaml.safe_load("".join(printed)), customers)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 0
    assert errors == b""
