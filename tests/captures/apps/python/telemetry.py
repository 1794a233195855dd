"""OpenTelemetry for the Python servers: the exporter and the SDK as in any service, settings from the environment.

Nothing here reads or changes a span: what is captured is what the instrumentation makes.
"""

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def start() -> TracerProvider:
    """Set the global tracer provider; the caller shuts it down, which sends what is left."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def capture_body(body: bytes) -> None:
    """Put the request body on the current span, which must be the SERVER span."""
    trace.get_current_span().set_attribute("http.request.body.content", body.decode())
