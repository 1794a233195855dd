"""Calls models through their SDKs below three requests, and writes the spans of it to a file.

    python app.py genai|openllmetry|openinference FILE

The requests' own spans are made by hand, as an HTTP instrumentation makes them; all others by the instrumentations
and SDKs that are installed.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import anthropic
import openai
import provider
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

INSTRUMENTATIONS = {
    "genai": "opentelemetry.instrumentation.genai",
    "openllmetry": "opentelemetry.instrumentation",
    "openinference": "openinference.instrumentation",
}
MESSAGES = [{"role": "user", "content": "hello"}]


def main(which: str, file: Path) -> None:
    """Record the spans of all requests."""
    exporter = InMemorySpanExporter()
    tracing = TracerProvider(resource=Resource.create({"service.name": "models"}))
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(tracing)
    for name, of in (("openai", "OpenAI"), ("anthropic", "Anthropic")):
        module = importlib.import_module(f"{INSTRUMENTATIONS[which]}.{name}")
        getattr(module, f"{of}Instrumentor")().instrument()
    address = f"http://127.0.0.1:{provider.serve()}"
    gpt = openai.OpenAI(api_key="none", base_url=f"{address}/v1")
    claude = anthropic.Anthropic(api_key="none", base_url=address)
    serve("/openai", lambda: call_openai(gpt))
    serve("/anthropic", lambda: call_anthropic(claude))
    serve("/silent", lambda: list(gpt.chat.completions.create(model="gpt", messages=MESSAGES, stream=True)))
    file.write_bytes(encode_spans(exporter.get_finished_spans()).SerializeToString())


def serve(path: str, work: Callable[[], object]) -> None:
    """Answer a request by this work."""
    attributes = {
        "http.request.method": "POST",
        "url.path": path,
        "http.response.status_code": 200,
        "http.request.header.x-account-id": ("acme",),
    }
    with trace.get_tracer("by hand").start_as_current_span(
        f"POST {path}", kind=SpanKind.SERVER, attributes=attributes
    ):
        work()


def call_openai(client: openai.OpenAI) -> None:
    """A chat, the same as a stream with its numbers, a response, an embedding."""
    client.chat.completions.create(model="gpt", messages=MESSAGES)
    asking = {"include_usage": True}
    list(client.chat.completions.create(model="gpt", messages=MESSAGES, stream=True, stream_options=asking))
    client.responses.create(model="gpt", input="hello")
    client.embeddings.create(model="embed", input="hello")


def call_anthropic(client: anthropic.Anthropic) -> None:
    """A message, and one as a stream."""
    client.messages.create(model="claude", max_tokens=10, messages=MESSAGES)
    list(client.messages.create(model="claude", max_tokens=10, messages=MESSAGES, stream=True))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
