"""docs/doctor.md shows what `doctor` and `meters check` print, on a good set-up and on a broken one.

With UPDATE_DOCS=1 the page is written anew instead.
"""

import asyncio
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from billing import batch, billing, record
from compared import config, past
from running_service import running_service
from span_builder import payload, span
from structlog.testing import capture_logs

from otel_usageflow.cli import main
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.model.usage import Reason
from otel_usageflow.testing.stripe import ManualClock, StripeDouble

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
KEY = "rk_live_doctor"
READS = {"billing_meter_read", "customer_read", "event_read", "billing_meter_event_write"}


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of this machine, and a terminal as wide as a page."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("COLUMNS", "120")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _complete(path: Path) -> tuple[Path, dict[str, str]]:
    """The configuration with everything that doctor looks at; its ports, and those that the page shows."""
    ports = {name: _free_port() for name in ("4318", "13133", "8888")}
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    values["receivers"]["otlp"]["protocols"]["http"]["endpoint"] = f"127.0.0.1:{ports['4318']}"
    values["extensions"]["health_check"] = {"endpoint": f"127.0.0.1:{ports['13133']}"}
    values["service"]["extensions"].append("health_check")
    reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": ports["8888"]}}}}
    values["service"]["telemetry"] = {"metrics": {"readers": [reader]}}
    path.write_text(yaml.safe_dump(values))
    return path, {str(port): name for name, port in ports.items()}


async def _printed(capsys: pytest.CaptureFixture[str], path: Path, ports: dict[str, str], *words: str) -> str:
    """A command with its status, as the page shows it: without what is of this run only, and of the double."""
    capsys.readouterr()
    status = await asyncio.to_thread(main, [*words, "--config", str(path)])
    text = capsys.readouterr().out.replace(str(path.parent), "usageflow-data")
    for port, name in ports.items():
        text = text.replace(f":{port}", f":{name}")
    text = re.sub(r"note     exporters::stripe_meter::endpoints::api.*\n.*\n", "", text)
    text = re.sub(r"\d+\.\d MiB", "0.4 MiB", text)
    text = re.sub(r"clock is \d+ s", "clock is 900 s", text)
    lines = [line.rstrip() for line in text.splitlines() if not re.match(r"[\d\w ,]+ ok$", line)]
    shown = "\n".join(lines).strip()
    return f"$ otel-usageflow {' '.join(words)} --config usageflow.yaml\n{shown}\n$ echo $?\n{status}"


async def _call_the_api(port: str) -> None:
    """A request to the endpoint that the policy bills, as an instrumented app tells it."""
    facts = {
        "http.request.method": "POST",
        "url.path": "/v1/chat",
        "http.response.status_code": 200,
        "http.request.header.x-account-id": ["acme"],
    }
    now = time.time_ns()
    headers = {"Content-Type": "application/x-protobuf"}
    async with (
        aiohttp.ClientSession() as client,
        client.post(
            f"http://127.0.0.1:{port}/v1/traces", data=payload(span(facts, start=now - 9, end=now)), headers=headers
        ) as answer,
    ):
        assert answer.status == 200


async def _good(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    async with StripeDouble(KEY, permissions={KEY: READS}) as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        with capture_logs():
            async with billing(folder, stripe, api_key=KEY) as running:
                await running.bill(record("acme", quantity=2))
                await stripe.wait_until(lambda: stripe.total("api_request", customer) == 2)
        path, ports = _complete(config(folder, stripe))
        async with running_service(path):
            await _call_the_api(next(port for port, name in ports.items() if name == "4318"))
            return [
                await _printed(capsys, path, ports, "doctor"),
                await _printed(capsys, path, ports, "meters", "check"),
            ]


async def _broken(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """A secret key in test mode, no right to read events, a clock that is ahead, a meter per hour, a shared value."""
    key = "sk_test_doctor"
    clock = ManualClock(time.time() - 900)
    with capture_logs():
        async with past(folder, {"acme": "cus_1", "twin": "cus_2"}) as made:
            await made.ledger.apply_customers(
                "", ["account_id"], [CustomerChange("cus_3", {"account_id": "twin"})], 1
            )
            now = time.time()
            await made.commit(batch(record("acme", at=now - 7_200)), now)
            await made.commit(batch(record(None, at=now - 60, reason=Reason.NO_USER)), now)
    async with StripeDouble(key, permissions={key: READS - {"event_read"}}, clock=clock) as stripe:
        stripe.add_meter("api_request", event_time_window="hour")
        path, ports = _complete(config(folder, stripe))
        return [
            await _printed(capsys, path, ports, "doctor"),
            await _printed(capsys, path, ports, "meters", "check"),
        ]


async def test_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each block of the page is what the commands print."""
    (tmp_path / "good").mkdir()
    (tmp_path / "broken").mkdir()
    printed = [*await _good(tmp_path / "good", capsys), *await _broken(tmp_path / "broken", capsys)]
    page = PAGE.read_text()
    if os.environ.get("UPDATE_DOCS") == "1":
        blocks = iter(printed)
        page = re.sub(r"(?s)```text\n.*?\n```", lambda _: f"```text\n{next(blocks)}\n```", page)
        PAGE.write_text(page)
    assert re.findall(r"(?s)```text\n(.*?)\n```", page) == printed
