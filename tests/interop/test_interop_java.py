"""The OpenTelemetry exporter for Java against our receiver and the running service."""

from collections import Counter
from pathlib import Path

import pytest
from billed import USERS, stripe_and_service, until_billed
from foreign_programs import java, need
from otlp_harness import Sink, otlp
from prepare import JAVA

from otel_usageflow.component import Consumed
from otel_usageflow.errors import Unavailable

BATCHES, MANY, SPANS, TOKENS = 5, 200, 20, 3
"""Batches that it sends, spans of each, and what each request costs."""


@pytest.fixture(autouse=True)
def _can_run() -> None:
    need(JAVA)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_java_comes_back_after_a_refusal(protocol: str) -> None:
    """UNAVAILABLE (which it retries only as "trailers-only") and 503 bring the same batch again, taken once."""
    sink = Sink(script=[Consumed(), Unavailable("starting")])
    async with otlp(sink) as receiver:
        endpoint = (
            f"http://{receiver.grpc_address}" if protocol == "grpc" else f"http://{receiver.http_address}/v1/traces"
        )
        async with java(protocol, endpoint, str(BATCHES), str(SPANS), USERS[0]) as lines:
            ended = [line.decode().strip() async for line in lines]
    assert ended == [f"taken {SPANS}"] * BATCHES
    assert sink.calls == BATCHES + 1
    assert len(sink.span_ids()) == len(set(sink.span_ids())) == BATCHES * SPANS


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_java_loses_nothing_when_the_service_is_killed(tmp_path: Path, protocol: str) -> None:
    """Kill -9 and a restart while it sends: every span is billed once."""
    async with stripe_and_service(tmp_path) as (stripe, running):
        endpoint = (
            f"http://127.0.0.1:{running.grpc}" if protocol == "grpc" else f"http://127.0.0.1:{running.http}/v1/traces"
        )
        async with java(protocol, endpoint, str(MANY), str(SPANS), USERS[0]) as lines:
            ended = [(await lines.readline()).decode().strip() for _ in range(20)]
            await running.kill()
            await running.start()
            ended += [line.decode().strip() async for line in lines]
        assert ended == [f"taken {SPANS}"] * MANY
        await until_billed(stripe, Counter({USERS[0]: MANY * SPANS * TOKENS}))
