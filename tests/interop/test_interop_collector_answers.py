"""Our answers as a real Collector understands them: come back later, or never with this."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from billed import api
from foreign_programs import collector, need
from otlp_harness import Sink, otlp
from prepare import COLLECTOR
from processes import free_port

from otel_usageflow.component import Consumed
from otel_usageflow.errors import InvalidData, Unavailable
from otel_usageflow.receivers.otlp.receiver import OtlpReceiver

EXPORTERS = ["otlp_grpc", "otlp_http"]
DELAY = 2.0
"""Seconds that the receiver asks for; the Collector would come back after a twentieth of that by itself."""


@pytest.fixture(autouse=True)
def _can_run() -> None:
    need(COLLECTOR)


@dataclass
class Timed(Sink):
    """A sink that knows when it was called."""

    times: list[float] = field(default_factory=list)

    async def __call__(self, payload: bytes) -> Consumed:
        """Take a request."""
        self.times.append(asyncio.get_running_loop().time())
        return await super().__call__(payload)


def forwarding(exporter: str, listen: int, receiver: OtlpReceiver) -> str:
    """A Collector that passes every request on as it came, one after the other; the rest is its default."""
    to = receiver.grpc_address if exporter == "otlp_grpc" else f"http://{receiver.http_address}"
    return f"""
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{listen}"}}}}}}
exporters:
  {exporter}:
    endpoint: "{to}"
    tls: {{insecure: true}}
    retry_on_failure: {{initial_interval: 100ms, max_interval: 100ms}}
    sending_queue: {{num_consumers: 1}}
service:
  pipelines:
    traces: {{receivers: [otlp], exporters: [{exporter}]}}
"""


@pytest.mark.parametrize("exporter", EXPORTERS)
async def test_the_collector_comes_back_when_it_is_told_to(tmp_path: Path, exporter: str) -> None:
    """RetryInfo and Retry-After are respected: not before, and then with the same spans."""
    sink = Timed(script=[Unavailable("starting", retry_after=DELAY)])
    listen = free_port()
    async with (
        otlp(sink) as receiver,
        collector(tmp_path, forwarding(exporter, listen, receiver), listen),
        api(listen) as program,
    ):
        await program.requests(20)
        async with asyncio.timeout(20):
            await sink.reached(2)
    assert sink.times[1] - sink.times[0] >= DELAY - 0.05
    assert len(sink.span_ids()) == len(set(sink.span_ids())) == 2 * 20


@pytest.mark.parametrize("exporter", EXPORTERS)
async def test_a_bad_request_costs_only_itself(tmp_path: Path, exporter: str) -> None:
    """INVALID_ARGUMENT and 400 make the Collector drop that request, say so, and go on with the next."""
    sink = Sink(script=[InvalidData("cannot be read")])
    listen = free_port()
    async with (
        otlp(sink) as receiver,
        collector(tmp_path, forwarding(exporter, listen, receiver), listen) as front,
        api(listen) as program,
    ):
        await program.requests(20)
        await front.says("Dropping data")
        await program.requests(20)
        async with asyncio.timeout(20):
            await sink.reached(2)
    assert (sink.calls, len(sink.span_ids())) == (2, 2 * 20)


@pytest.mark.parametrize("exporter", EXPORTERS)
async def test_a_bug_of_ours_costs_nothing(tmp_path: Path, exporter: str) -> None:
    """An error that nobody foresaw is an answer after which the Collector keeps its spans."""
    sink = Sink(script=[RuntimeError("a bug"), Unavailable("still starting", retry_after=0.1)])
    listen = free_port()
    async with (
        otlp(sink) as receiver,
        collector(tmp_path, forwarding(exporter, listen, receiver), listen),
        api(listen) as program,
    ):
        await program.requests(20)
        async with asyncio.timeout(20):
            await sink.reached(3)
    assert len(sink.span_ids()) == 2 * 20
