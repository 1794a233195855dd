"""A small OTLP/HTTP receiver on a real port for the SDK's tests: answers as it is told, and keeps what it took."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATIENCE = 20.0
"""Seconds that anything may take."""


@dataclass
class Reply:
    """One answer."""

    status: int = 200
    rejected: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    wait: threading.Event | None = None
    """The answer is held back until this is set."""


@dataclass
class Collector:
    """What came in, and what is answered next; with nothing scripted, everything is taken."""

    port: int = 0
    script: list[Reply] = field(default_factory=list)
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    """Those that were taken."""
    headers: list[dict[str, str]] = field(default_factory=list)
    calls: int = 0
    always: Reply = field(default_factory=Reply)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spans(self) -> list[Span]:
        """Every span that was taken."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def found(self) -> list[dict[str, Any]]:
        """The attributes of every span that was taken."""
        return [attributes(span) for span in self.spans()]


def attributes(span: Span) -> dict[str, Any]:
    """The plain attributes of a span."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "", None) for pair in span.attributes}


@contextmanager
def collector(port: int = 0, state: Collector | None = None) -> Iterator[Collector]:
    """Run one; `state` goes on where another one ended."""
    kept = state or Collector()
    connections: list[socket.socket] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.calls += 1
            reply = kept.script.pop(0) if kept.script else kept.always
            if reply.wait is not None:
                reply.wait.wait(PATIENCE)
            answer = ExportTraceServiceResponse()
            if reply.rejected:
                answer.partial_success.rejected_spans = reply.rejected
                answer.partial_success.error_message = "not these"
            if reply.status == 200:
                kept.headers.append({name.lower(): value for name, value in self.headers.items()})
                kept.requests.append(ExportTraceServiceRequest.FromString(body))
            told = answer.SerializeToString()
            self.send_response(reply.status)
            for name, value in {"content-length": str(len(told)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def process_request(self, request: Any, client_address: Any) -> None:
            connections.append(request)
            super().process_request(request, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away is no news."""

    server = Server(("127.0.0.1", port), Handler)
    kept.port = server.server_port
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        for connection in connections:  # a process that dies takes those along that were kept open
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)
