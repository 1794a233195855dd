"""A small API, instrumented with OpenTelemetry. Nothing in it knows of billing."""

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)

app = FastAPI()


@app.post("/v1/chat/completions")
def chat() -> dict[str, str]:
    """Answer everything."""
    return {"answer": "42"}


FastAPIInstrumentor.instrument_app(app)
