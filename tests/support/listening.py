"""`otel-usageflow discover --live` as a process, and a real SDK that sends it requests."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind

COMMAND = (sys.executable, "-m", "otel_usageflow", "discover", "--live")
ANYWHERE = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")


@dataclass
class Listening:
    """The command, while it listens."""

    process: asyncio.subprocess.Process
    said: str
    """The line with which it begins to listen."""

    def address(self, protocol: str) -> str:
        """Where it listens."""
        found = re.search(rf"{protocol} (\S+?:\d+)", self.said)
        assert found is not None, self.said
        return found[1]

    async def end(self, with_signal: int | None = None) -> tuple[int, str, str]:
        """Exit status, standard output, and what else stood on standard error."""
        if with_signal is not None:
            self.process.send_signal(with_signal)
        async with asyncio.timeout(30):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def listening(
    *arguments: object, where: tuple[str, ...] = ANYWHERE, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Listening]:
    """Run the command, and wait until it listens."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *where,
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            said = (await process.stderr.readline()).decode()
        if not said.startswith("listening"):
            raise AssertionError(said + (await process.stderr.read()).decode())
        yield Listening(process, said)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def grpc_exporter(address: str, **more: Any) -> SpanExporter:
    """The SDK's own, over gRPC."""
    return GrpcExporter(endpoint=address, **({"insecure": True} | more))


def http_exporter(address: str, **more: Any) -> SpanExporter:
    """The SDK's own, over HTTP."""
    return HttpExporter(endpoint=f"http://{address}/v1/traces", **more)


def send(exporter: SpanExporter, *requests: Mapping[str, Any], service: str = "shop") -> None:
    """What an instrumented app does with each request."""
    provider = TracerProvider(resource=Resource({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for attributes in requests:
        with provider.get_tracer("app").start_as_current_span("request", kind=SpanKind.SERVER, attributes=attributes):
            pass
    provider.shutdown()
