"""The process dies while requests wait for their traces, and while they are settled: lost 0, doubled 0."""

import asyncio
import random
import signal
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest
from load import Load, until_billed
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from processes import Running, double, service

from otel_usageflow.model.crash_point import TRACE_POINTS

LATE = 1.5
"""Seconds after which some spans come: more than requests wait."""
USERS = [f"user-{number}" for number in range(3)]


def export(trace_id: bytes, spans: Sequence[tuple[int, int, int | None]], user: str) -> bytes:
    """One export request: spans of a trace with these (number, parent, tokens); number 1 is the request."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "api"
    scope = resource.scope_spans.add()
    for number, parent, tokens in spans:
        span = scope.spans.add(
            trace_id=trace_id,
            span_id=number.to_bytes(8, "big"),
            parent_span_id=parent.to_bytes(8, "big") if parent else b"",
            kind=Span.SPAN_KIND_SERVER if number == 1 else Span.SPAN_KIND_INTERNAL,
            flags=0x100,
            start_time_unix_nano=time.time_ns() - 1_000_000,
            end_time_unix_nano=time.time_ns(),
        )
        if number == 1:
            for key, text in (("http.request.method", "POST"), ("url.path", "/v1/chat")):
                span.attributes.add(key=key).value.string_value = text
            span.attributes.add(key="http.response.status_code").value.int_value = 200
            header = span.attributes.add(key="http.request.header.x-account-id").value.array_value
            header.values.add(string_value=user)
        if tokens is not None:
            span.attributes.add(key="app.tokens").value.int_value = tokens
    return message.SerializeToString()


class Traces(Load):
    """A client whose requests use tokens in spans below an agent, which come before, with, after and late."""

    def __init__(self, running: Running) -> None:
        super().__init__(running.grpc, running.http, USERS)
        self.late: deque[tuple[float, bytes]] = deque()

    async def run(self) -> None:
        """Send until `stopping` is set, and then what is late."""
        async with aiohttp.ClientSession() as session:
            dice = random.Random(self.seed)
            while not self.stopping.is_set():
                await self._one_trace(session, dice)
                await self._send_late(session, time.monotonic())
            await asyncio.sleep(LATE)
            await self._send_late(session, time.monotonic())

    async def _one_trace(self, session: aiohttp.ClientSession, dice: random.Random) -> None:
        trace_id, user = dice.randbytes(16), dice.choice(self.users)
        calls = [dice.randint(1, 5) for _ in range(3)]
        pieces = [
            [(3, 2, calls[0])],
            [(1, 0, None), (4, 2, calls[1])],
            [(2, 1, sum(calls)), (5, 2, calls[2])],
        ]
        dice.shuffle(pieces)
        for piece in pieces:
            await self._until_taken(session, export(trace_id, piece, user))
        if dice.random() < 0.3:
            self.late.append((time.monotonic() + LATE, export(trace_id, [(6, 1, 7)], user)))
            self.acknowledged[user] += 7
        self.acknowledged[user] += sum(calls)
        self.requests += 1
        self._progress.set()

    async def _send_late(self, session: aiohttp.ClientSession, now: float) -> None:
        while self.late and self.late[0][0] <= now:
            await self._until_taken(session, self.late.popleft()[1])

    async def _until_taken(self, session: aiohttp.ClientSession, payload: bytes) -> None:
        while not await self._send_http(session, payload):
            self.retries += 1
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("point", TRACE_POINTS)
async def test_death_while_traces_are_settled(tmp_path: Path, point: str) -> None:
    """Killed at its first and at its third arrival at a point, the service loses and doubles nothing."""
    customers = [argument for user in USERS for argument in ("--customer", f"account_id={user}")]
    async with (
        double("--meter", "api_request", "--no-rate-limits", *customers) as stripe,
        service(tmp_path, stripe) as running,
    ):
        text = running.config.read_text()
        assert "quantity: {attribute: app.tokens}" in text
        summed = "quantity: {from: trace, attributes: [app.tokens]}\n        trace_wait: 1s"
        await running.stop()
        running.config.write_text(text.replace("quantity: {attribute: app.tokens}", summed))
        load = Traces(running)
        sending = asyncio.create_task(load.run())  # until the service is there again, it is refused
        for arrival in (1, 3):
            await running.start(die_at=f"{point}#{arrival}")
            assert running.process is not None
            async with asyncio.timeout(30):
                assert await running.process.wait() == -signal.SIGKILL
            await running.start()
            await load.more(10)
            if arrival == 1:
                await running.stop()
        load.stopping.set()
        await sending
        await until_billed(stripe, load, within=30)
        assert (await stripe.ask("violations"))["count"] == 0
