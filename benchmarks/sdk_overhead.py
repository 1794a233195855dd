"""What `otel_usageflow.sdk` costs a request: the same app with and without it, against a receiver in another process.

    PYTHONPATH=tests/support .venv/bin/python benchmarks/sdk_overhead.py [REQUESTS]

Each row is the best of seven rounds, with and without in turn, since other programs only ever add. First is the time
that the caller waits, then the CPU time of the whole process, with the thread that encodes and sends.
"""

import asyncio
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from flask import Flask
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from sdk_apps import call_wsgi

import otel_usageflow.sdk as usageflow

ROUNDS = 7
RECEIVER = "from sdk_collector import *\nwith collector() as c:\n    print(c.url, flush=True)\n    input()"
HEADERS = [(b"host", b"api.example"), (b"x-account-id", b"acme"), (b"user-agent", b"benchmark"), (b"accept", b"*/*")]
Serve = Callable[[int], None]


class Nowhere(SpanExporter):
    """A tracing backend that costs nothing."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def asgi(app: Any) -> Serve:
    """Serve so many requests in one event loop."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Any) -> None:
        pass

    async def serve(number: int) -> None:
        for _ in range(number):
            scope = {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
                "path": "/items/1", "raw_path": b"/items/1", "query_string": b"", "root_path": "", "headers": HEADERS,
                "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
            }  # fmt: skip
            await app(scope, receive, send)

    return lambda number: asyncio.run(serve(number))


def wsgi(app: Any) -> Serve:
    """Serve so many requests."""

    def serve(number: int) -> None:
        for _ in range(number):
            call_wsgi(app, "/items/1")

    return serve


def fastapi(url: str | None, sampler: Sampler | None = None) -> Serve:
    """An async handler that does nothing, instrumented if there is a sampler."""
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})

    @app.get("/items/{item}")
    async def items(item: str) -> dict[str, str]:
        return {"item": item}

    if sampler is not None:
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(Nowhere()))
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, exclude_spans=["receive", "send"])
        return asgi(installed(app, url, provider))
    return asgi(installed(app, url))


def flask(url: str | None) -> Serve:
    """A handler that does nothing."""
    app = Flask("shop")
    app.get("/items/<item>")(lambda item: {"item": item})
    return wsgi(installed(app, url))


def plain(url: str | None) -> Serve:
    """An ASGI app of two lines: what is left is the SDK."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return asgi(installed(app, url))


def installed(app: Any, url: str | None, provider: TracerProvider | None = None) -> Any:
    """With the SDK if there is a receiver."""
    if url is None:
        return app
    user = usageflow.api_key(header="x-account-id")
    return usageflow.install(
        app, endpoint=url, user=user, tracer_provider=provider, limits=usageflow.Limits(queue=10**6)
    )


CASES: dict[str, Callable[[str | None], Serve]] = {
    "plain ASGI, no instrumentation": plain,
    "FastAPI, no instrumentation": fastapi,
    "FastAPI, contrib, nothing sampled": lambda url: fastapi(url, ALWAYS_OFF),
    "FastAPI, contrib, all sampled": lambda url: fastapi(url, ALWAYS_ON),
    "Flask, no instrumentation": flask,
}


def measured(make: Callable[[str | None], Serve], url: str | None, number: int) -> tuple[float, float]:
    """Microseconds a request that the caller waits, and of CPU."""
    serve = make(url)
    serve(200)
    usageflow.flush(60)
    wall, cpu = time.perf_counter(), time.process_time()
    serve(number)
    waited = time.perf_counter() - wall
    assert usageflow.flush(60)
    spent = time.process_time() - cpu
    stats = usageflow.stats()
    assert url is None or (stats.sent, stats.dropped) == (number + 200, 0), stats
    usageflow.shutdown()
    return waited / number * 1e6, spent / number * 1e6


def main() -> None:
    """Print one row for each kind of app."""
    logging.disable(logging.CRITICAL)
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    with subprocess.Popen(
        [sys.executable, "-c", RECEIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as at:
        assert at.stdout is not None
        url = at.stdout.readline().strip()
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        print(f"{number} requests a round; us a request: without, with, more | CPU: without, with, more")
        for name, make in CASES.items():
            rounds = [(measured(make, None, number), measured(make, url, number)) for _ in range(ROUNDS)]
            row = [min(pair[side][kind] for pair in rounds) for kind in (0, 1) for side in (0, 1)]
            print(f"{name:36} {row[0]:7.1f} {row[1]:7.1f} {row[1] - row[0]:6.1f} | "
                  f"{row[2]:7.1f} {row[3]:7.1f} {row[3] - row[2]:6.1f}", flush=True)  # fmt: skip
        at.communicate("\n")


if __name__ == "__main__":
    main()
