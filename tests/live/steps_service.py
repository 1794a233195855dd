"""The real service as a process, with real OTLP, on the stage: what it was sent is what Stripe counts."""

import asyncio
import json
import os
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import yaml
from processes import free_port
from span_builder import payload, span
from stage import FIELD, Stage

COMMAND = [sys.executable, "-m", "otel_usageflow"]
REQUESTS = 25


async def the_service(on: Stage) -> None:
    """Start it, send requests of two customers and of nobody, wait for the bill, look at it with the commands."""
    name, meter = await on.meter("service")
    users = {f"{who}-{on.mark}": await on.customer(who) for who in ("acme", "globex")}
    with tempfile.TemporaryDirectory() as folder:
        http, health = free_port(), free_port()
        path, log = Path(folder, "usageflow.yaml"), Path(folder, "log")
        _write(path, yaml.safe_dump(_config(on, folder, name, http, health)))
        environment = {**os.environ, "UF_LIVE_KEY": on.settings.key}
        process = await _started(path, log, environment)
        try:
            await _ready(process, health, log)
            for user in (*users, f"nobody-{on.mark}"):
                await asyncio.to_thread(_send, http, user)

            async def billed() -> bool:
                totals = [await on.total(meter, customer) for customer in users.values()]
                return totals == [float(REQUESTS)] * len(users)

            done = await on.until(billed)
            seen = [await on.total(meter, customer) for customer in users.values()]
            on.check(done, f"{REQUESTS} requests of each customer are what Stripe counts", seen)
            status, out = await _command(environment, "usage", "--config", str(path), "--format", "json")
            states = (
                {line["standing"] for line in json.loads(out)["usage"] if line.get("user") in users}
                if not status
                else out
            )
            on.check(states == {"billed"}, "`usage` calls them billed", states)
            status, out = await _command(environment, "meters", "check", "--config", str(path))
            on.check(status == 0, "`meters check` finds that the meter fits", out)
            status, out = await _command(environment, "doctor", "--config", str(path))
            problems = [line for line in out.splitlines() if line.startswith("problem")]
            on.check(status == 0, "`doctor` finds no problem", problems)
        finally:
            if process.returncode is None:
                process.terminate()
            on.check(await process.wait() == 0, "the service ends in order", _read(log)[-2000:])
        on.check(on.settings.key not in _read(log), "the key is not in the log")


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _read(path: Path) -> str:
    return path.read_text()


async def _started(config: Path, log: Path, environment: dict[str, str]) -> asyncio.subprocess.Process:
    with log.open("wb") as stderr:
        return await asyncio.create_subprocess_exec(*COMMAND, "--config", str(config), stderr=stderr, env=environment)


def _config(on: Stage, folder: str, event_name: str, http: int, health: int) -> dict[str, object]:
    policy = {
        "name": "live",
        "endpoint": "POST /v1/chat",
        "user": {"header": "x-account-id"},
        "customer": {"metadata_field": FIELD},
        "event_name": event_name,
    }
    endpoints = {"api": on.settings.api, "meter_events": on.settings.stream, "connect": on.settings.api}
    return {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{http}"}}}},
        "processors": {"usage_policy": {"policies": [policy]}},
        "exporters": {
            "stripe_meter": {
                "api_key": "${env:UF_LIVE_KEY}",
                "aggregation": {"window": "1s"},
                "sending_queue": {"storage": "sqlite_storage"},
                **({} if on.settings.real else {"endpoints": endpoints}),
            }
        },
        "extensions": {
            "sqlite_storage": {"directory": f"{folder}/ledger"},
            "health_check": {"endpoint": f"127.0.0.1:{health}"},
        },
        "service": {
            "extensions": ["sqlite_storage", "health_check"],
            "pipelines": {
                "traces": {"receivers": ["otlp"], "processors": ["usage_policy"], "exporters": ["stripe_meter"]}
            },
        },
    }


async def _ready(process: asyncio.subprocess.Process, health: int, log: Path) -> None:
    def ask() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{health}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    async with asyncio.timeout(30):
        while not await asyncio.to_thread(ask):
            if process.returncode is not None:
                raise RuntimeError(f"the service ended: {_read(log)[-2000:]}")
            await asyncio.sleep(0.1)


def _send(http: int, user: str) -> None:
    """What a Collector does with the requests of one user."""
    now = time.time_ns()
    spans = [
        span(
            {
                "http.request.method": "POST",
                "url.path": "/v1/chat",
                "http.response.status_code": 200,
                "http.request.header.x-account-id": [user],
            },
            start=now - 1_000_000,
            end=now,
        )
        for _ in range(REQUESTS)
    ]
    for one in spans:
        one.trace_id = os.urandom(16)
    request = urllib.request.Request(
        f"http://127.0.0.1:{http}/v1/traces", payload(*spans), {"Content-Type": "application/x-protobuf"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200


async def _command(environment: dict[str, str], *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()
