"""Clients under load: they send numbered requests, send them again until they are acknowledged, and remember.

The memory of these clients is the oracle: what they saw acknowledged is what must be billed. It shares no code with
the ledger.
"""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

import aiohttp
import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from processes import Double

# What OTLP lets clients retry ("Failures") and a stopping server can answer; any other status would make them drop
# the batch. CANCELLED is gRPC's own, for calls that nobody had taken up when the server stopped.
RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def request(spans: list[tuple[bytes, str, int]], status: int = 200) -> bytes:
    """One export request: SERVER spans with these (trace id, user, tokens), ending now."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "api"
    scope = resource.scope_spans.add()
    for trace_id, user, tokens in spans:
        span = scope.spans.add(
            trace_id=trace_id,
            span_id=trace_id[:8],
            name="POST /v1/chat",
            kind=Span.SPAN_KIND_SERVER,
            flags=0x100,
            start_time_unix_nano=time.time_ns() - 1_000_000,
            end_time_unix_nano=time.time_ns(),
        )
        for key, text in (("http.request.method", "POST"), ("url.path", "/v1/chat")):
            span.attributes.add(key=key).value.string_value = text
        span.attributes.add(key="http.response.status_code").value.int_value = status
        span.attributes.add(key="app.tokens").value.int_value = tokens
        header = span.attributes.add(key="http.request.header.x-account-id").value.array_value
        header.values.add(string_value=user)
    return message.SerializeToString()


@dataclass
class Load:
    """Clients that send until stopped, over gRPC and HTTP, and keep the books."""

    grpc_port: int
    http_port: int
    users: list[str]
    seed: int = 1
    batch: int = 20
    clients: int = 6
    pause: float = 0.0
    again: float = 0.1
    """How many of the batches are sent once more although they were acknowledged."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    """User -> tokens that were acknowledged."""
    in_doubt: Counter[str] = field(default_factory=Counter)
    """User -> tokens that were sent and never acknowledged, because the test ended first."""
    requests: int = 0
    retries: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _progress: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Send until `stopping` is set; then finish what was begun."""
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(self._client(number, session) for number in range(self.clients)))

    async def more(self, requests: int, timeout: float = 20) -> None:  # noqa: ASYNC109
        """Wait until so many more requests were acknowledged."""
        goal = self.requests + requests
        async with asyncio.timeout(timeout):
            while self.requests < goal:
                self._progress.clear()
                await self._progress.wait()

    async def _client(self, number: int, session: aiohttp.ClientSession) -> None:
        dice = random.Random(self.seed * 1000 + number)
        while not self.stopping.is_set():
            spans = [
                (dice.randbytes(16), dice.choice(self.users), dice.randrange(5))
                for _ in range(dice.randint(1, self.batch))
            ]
            payload = request(spans)
            tokens: Counter[str] = Counter()
            for _trace_id, user, count in spans:
                tokens[user] += count
            while not await self._send(number, session, payload):
                self.retries += 1
                await asyncio.sleep(0.02)
            if dice.random() < self.again:  # a client that did not see the answer sends the batch again
                await self._send(number, session, payload)
            self.acknowledged.update(tokens)
            self.requests += len(spans)
            self._progress.set()
            if self.pause:
                await asyncio.sleep(self.pause)

    async def _send(self, number: int, session: aiohttp.ClientSession, payload: bytes) -> bool:
        return await (self._send_http(session, payload) if number % 2 else self._send_grpc(payload))

    async def _send_grpc(self, payload: bytes) -> bool:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            try:
                await channel.unary_unary(EXPORT)(payload, timeout=10)
            except grpc.aio.AioRpcError as error:
                if error.code() in RETRYABLE:
                    return False
                raise
        return True

    async def _send_http(self, session: aiohttp.ClientSession, payload: bytes) -> bool:
        url = f"http://127.0.0.1:{self.http_port}/v1/traces"
        try:
            async with session.post(
                url,
                data=payload,
                headers={"content-type": "application/x-protobuf"},
                timeout=aiohttp.ClientTimeout(10),
            ) as answer:
                await answer.read()
                assert answer.status in (200, 503), answer.status
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


async def until_billed(stripe: Double, load: Load, within: float) -> None:
    """Wait until the double has counted what was acknowledged, each once; fail at once if it counted more."""
    expected = {user: Decimal(tokens) for user, tokens in load.acknowledged.items() if tokens}
    billed: dict[str, Decimal] = {}
    async with asyncio.timeout(within):
        while billed != expected:
            billed = {user: Decimal(total) for user, total in (await stripe.totals()).items() if Decimal(total)}
            if any(billed.get(user, 0) > tokens for user, tokens in expected.items()):
                break  # billed twice: waiting does not help
            await asyncio.sleep(0.2)
    assert billed == expected
