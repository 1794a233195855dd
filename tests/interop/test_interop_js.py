"""The OpenTelemetry exporters for JavaScript against the running service."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from billed import USERS, stripe_and_service, until_billed
from foreign_programs import js, need
from otlp_harness import Sink, otlp
from prepare import JS

from otel_usageflow.errors import Unavailable

SPANS = 400


@pytest.fixture(autouse=True)
def _can_run() -> None:
    need(JS)


def order(kind: str, port: int, compression: str = "none", spans: int = SPANS) -> dict[str, object]:
    """What js/send.js is to do."""
    path = "" if kind == "grpc" else "/v1/traces"
    url = f"http://127.0.0.1:{port}{path}"
    return {"kind": kind, "url": url, "compression": compression, "spans": spans, "users": USERS, "pause": 50}


async def books(lines: asyncio.StreamReader) -> tuple[Counter[str], Counter[str]]:
    """User -> tokens that it saw acknowledged, and that it gave up on."""
    last = [json.loads(line) async for line in lines][-1]
    return Counter(last["taken"]), Counter(last["lost"])


@pytest.mark.parametrize("kind", ["proto", "http", "grpc"])
async def test_every_js_span_is_billed_once(tmp_path: Path, kind: str) -> None:
    """Protobuf, JSON and gRPC as the JavaScript SDK writes and compresses them come to the same bill."""
    async with stripe_and_service(tmp_path) as (stripe, running):
        port = running.grpc if kind == "grpc" else running.http
        async with js(order(kind, port, "gzip") | {"pause": 0}) as lines:
            taken, lost = await books(lines)
        assert not lost
        assert taken.total() == sum(number % 7 + 1 for number in range(SPANS))
        await until_billed(stripe, taken)


@pytest.mark.parametrize("kind", ["proto", "http"])
async def test_js_over_http_loses_nothing_when_the_service_is_killed(tmp_path: Path, kind: str) -> None:
    """Kill -9 and a restart while it sends: every span is billed once."""
    async with stripe_and_service(tmp_path) as (stripe, running), js(order(kind, running.http)) as lines:
        for _ in range(2):
            for _ in range(3):
                assert json.loads(await lines.readline())["taken"]
            await running.kill()
            await running.start()
        taken, lost = await books(lines)
        assert not lost
        assert taken.total() == sum(number % 7 + 1 for number in range(SPANS))
        await until_billed(stripe, taken)


@pytest.mark.parametrize("kind", ["proto", "http"])
async def test_js_over_http_comes_back_after_a_refusal(kind: str) -> None:
    """503 with Retry-After makes it send the same spans again, and they are taken once."""
    sink = Sink(script=[Unavailable("starting"), Unavailable("starting")])
    async with otlp(sink) as receiver:
        port = int(str(receiver.http_address).rpartition(":")[2])
        async with js(order(kind, port, spans=20)) as lines:
            _, lost = await books(lines)
    assert (sink.calls, len(sink.span_ids()), lost) == (3, 20, Counter())
