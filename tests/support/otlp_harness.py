"""A real `otlp` receiver on real ports, a consumer that does what it is told, and clients for both transports."""

import asyncio
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_usageflow.component import Consumed, Context
from otel_usageflow.errors import InvalidData
from otel_usageflow.receivers.otlp import FACTORY
from otel_usageflow.receivers.otlp.receiver import OtlpReceiver

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PROTOBUF = "application/x-protobuf"
JSON = "application/json"


class FakeHealth:
    """A `Health` that a test can make sick."""

    def __init__(self) -> None:
        self.sick: dict[str, str] = {}

    def report(self, source: str, problem: str | None) -> None:
        if problem is None:
            self.sick.pop(source, None)
        else:
            self.sick[source] = problem

    def problems(self) -> Mapping[str, str]:
        return self.sick


@dataclass
class Sink:
    """A consumer: gives the scripted answers in turn, then takes everything it can read."""

    script: list[Consumed | Exception] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    """What was taken."""
    calls: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event | None = None
    """When given, every call waits for it."""

    async def __call__(self, payload: bytes) -> Consumed:
        self.calls += 1
        self.arrived.set()
        if self.gate is not None:
            await self.gate.wait()
        answer = self.script.pop(0) if self.script else Consumed()
        if isinstance(answer, Exception):
            raise answer
        try:
            ExportTraceServiceRequest.FromString(payload)
        except DecodeError as error:
            raise InvalidData("cannot read the request") from error
        self.payloads.append(payload)
        return answer

    async def reached(self, calls: int) -> None:
        """Return when so many calls have come in."""
        while self.calls < calls:
            self.arrived.clear()
            await self.arrived.wait()

    def span_ids(self) -> list[int]:
        """The numbers of all spans that were taken, in order of arrival."""
        return [
            int.from_bytes(span.span_id, "big")
            for payload in self.payloads
            for resource in ExportTraceServiceRequest.FromString(payload).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@asynccontextmanager
async def otlp(
    consume: Any,
    *,
    grpc: Mapping[str, Any] | None = None,
    http: Mapping[str, Any] | None = None,
    health: FakeHealth | None = None,
    extensions: Mapping[str, Any] | None = None,
    grace: float = 5.0,
    **further: Any,
) -> AsyncIterator[OtlpReceiver]:
    """A started receiver with both transports on free ports."""
    endpoint = {"endpoint": "127.0.0.1:0"}
    config = FACTORY.config.model_validate(
        {"protocols": {"grpc": endpoint | dict(grpc or {}), "http": endpoint | dict(http or {})}} | further
    )
    context = Context("otlp", health or FakeHealth(), extensions or {}, consume)
    receiver = OtlpReceiver(config, context, grace=grace)  # type: ignore[arg-type]
    async with receiver:
        yield receiver


def numbered(*numbers: int) -> ExportTraceServiceRequest:
    """A request with one span for each number; the number is the span's id."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number in numbers:
        spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name="GET /",
            kind=2,
            start_time_unix_nano=1_700_000_000_000_000_000 + number,
            end_time_unix_nano=1_700_000_000_500_000_000 + number,
        )
    return request


def numbered_json(*numbers: int) -> dict[str, Any]:
    """The same request as OTLP/JSON."""
    spans = [
        {
            "traceId": f"{number:032x}",
            "spanId": f"{number:016x}",
            "name": "GET /",
            "kind": 2,
            "startTimeUnixNano": str(1_700_000_000_000_000_000 + number),
            "endTimeUnixNano": str(1_700_000_000_500_000_000 + number),
        }
        for number in numbers
    ]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


@dataclass(frozen=True)
class GrpcAnswer:
    """What a gRPC client gets to see."""

    code: grpc.StatusCode
    body: bytes = b""
    details: str = ""
    trailers: Mapping[str, str | bytes] = field(default_factory=dict)


async def call(
    receiver: OtlpReceiver,
    payload: bytes,
    *,
    method: str = EXPORT,
    compression: grpc.Compression = grpc.Compression.NoCompression,
    metadata: Sequence[tuple[str, str]] = (),
) -> GrpcAnswer:
    """One gRPC call of raw bytes over a connection of its own."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(str(receiver.grpc_address), options=options) as channel:
        try:
            body = await channel.unary_unary(method)(
                payload, compression=compression, metadata=tuple(metadata), timeout=60
            )
        except grpc.aio.AioRpcError as error:
            trailers = {str(name): value for name, value in error.trailing_metadata() or ()}
            return GrpcAnswer(error.code(), b"", error.details() or "", trailers)
        return GrpcAnswer(grpc.StatusCode.OK, bytes(body))


@dataclass(frozen=True)
class HttpAnswer:
    """What an HTTP client gets to see."""

    status: int
    body: bytes
    headers: Mapping[str, str]


async def post(
    receiver: OtlpReceiver,
    body: Any,
    content_type: str | None = PROTOBUF,
    *,
    path: str = "/v1/traces",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> HttpAnswer:
    """One HTTP request over a connection of its own."""
    sent = dict(headers or {}) | ({} if content_type is None else {"Content-Type": content_type})
    if isinstance(body, bytes):
        body = io.BytesIO(body)  # in pieces: the answer may come before the end
    skip = {"Content-Type"} if content_type is None else set()
    async with (
        aiohttp.ClientSession(skip_auto_headers=skip) as session,
        session.request(method, f"http://{receiver.http_address}{path}", data=body, headers=sent) as answer,
    ):
        return HttpAnswer(answer.status, await answer.read(), answer.headers.copy())
