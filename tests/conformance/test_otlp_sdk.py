"""Real exporters of the OpenTelemetry Python SDK against a real receiver."""

import asyncio
from collections.abc import Callable

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from otlp_harness import Sink, otlp

from otel_usageflow.component import Consumed
from otel_usageflow.errors import InvalidData, Unavailable
from otel_usageflow.receivers.otlp.receiver import OtlpReceiver

EXPORTERS: dict[str, Callable[[OtlpReceiver], SpanExporter]] = {
    "grpc": lambda receiver: GrpcExporter(endpoint=str(receiver.grpc_address), insecure=True),
    "http": lambda receiver: HttpExporter(endpoint=f"http://{receiver.http_address}/v1/traces"),
    "http gzip": lambda receiver: HttpExporter(
        endpoint=f"http://{receiver.http_address}/v1/traces", compression=Compression.Gzip
    ),
    "http deflate": lambda receiver: HttpExporter(
        endpoint=f"http://{receiver.http_address}/v1/traces", compression=Compression.Deflate
    ),
}


def record_one_span(exporter: SpanExporter) -> None:
    """What an instrumented program does."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("GET /items"):
        pass
    provider.shutdown()


def names(sink: Sink) -> list[str]:
    """The names of all spans that were taken."""
    return [
        span.name
        for payload in sink.payloads
        for resource in ExportTraceServiceRequest.FromString(payload).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


@pytest.mark.parametrize("kind", EXPORTERS)
async def test_a_span_arrives_once(kind: str) -> None:
    """Every exporter and compression of the SDK is understood."""
    sink = Sink()
    async with otlp(sink) as receiver:
        await asyncio.to_thread(record_one_span, EXPORTERS[kind](receiver))
    assert names(sink) == ["GET /items"]


@pytest.mark.parametrize("kind", ["grpc", "http"])
async def test_what_is_unavailable_is_sent_again_and_taken_once(kind: str) -> None:
    """A retryable answer makes the SDK keep its spans; after two refusals they are delivered, once."""
    sink = Sink(script=[Unavailable("starting", retry_after=0.1), RuntimeError("a bug of ours")])
    async with otlp(sink) as receiver:
        await asyncio.to_thread(record_one_span, EXPORTERS[kind](receiver))
    assert (sink.calls, names(sink)) == (3, ["GET /items"])


@pytest.mark.parametrize("kind", ["grpc", "http"])
@pytest.mark.parametrize("answer", [InvalidData("bad"), Consumed(1, "a span without an id")])
async def test_what_is_final_is_not_sent_again(kind: str, answer: Consumed | Exception) -> None:
    """A permanent failure or a partial success ends the matter."""
    sink = Sink(script=[answer])
    async with otlp(sink) as receiver:
        await asyncio.to_thread(record_one_span, EXPORTERS[kind](receiver))
    assert sink.calls == 1
