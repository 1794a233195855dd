"""OpenTelemetry for the Python servers: the exporter and the SDK as in any service, settings from the environment.

What is captured is what the instrumentation makes, and what an application adds by OpenTelemetry's own API.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

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


class KeepHeaders:
    """ASGI middleware for an instrumentation that captures no headers: puts them onto the current span."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app
        self.names = os.environ["CAPTURES_HEADERS"].split(",")
        self.sanitized = os.environ["CAPTURES_SANITIZED_HEADERS"].split(",")

    async def __call__(self, scope: MutableMapping[str, Any], *channels: Any) -> None:
        for name in self.names if scope["type"] == "http" else ():
            values = [value.decode("latin-1") for key, value in scope["headers"] if key == name.encode()]
            if values:
                kept = ["[REDACTED]"] if name in self.sanitized else values
                trace.get_current_span().set_attribute(f"http.request.header.{name}", kept)
        await self.app(scope, *channels)
