"""The smallest OTLP/HTTP receiver: keeps the body of every `POST /v1/traces` as it came.

`python tests/captures/sink.py FILE` runs it by itself on 127.0.0.1:4318 until Ctrl-C and appends to FILE, for
recording the spans of an API of one's own; see docs/capturing.md.
"""

import gzip
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self


class Sink:
    """A server in a thread. `bodies` are export requests in the order of their arrival, uncompressed."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, into: Path | None = None) -> None:
        self.bodies: list[bytes] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self._body()
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                content_type = self.headers["content-type"]
                sink.take(body + b"\n" if content_type == "application/json" else body, into)
                answer = b"{}" if content_type == "application/json" else b""
                self.send_response(200)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def _body(self) -> bytes:
                length = self.headers.get("content-length")
                if length is not None:
                    return self.rfile.read(int(length))
                chunks = []  # Node's exporter sends chunks; see RFC 9112, section 7.1
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer((host, port), Handler)

    @property
    def endpoint(self) -> str:
        """Its base URL, for `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, body: bytes, into: Path | None) -> None:
        """Keep one export request. A JSON one ends in a newline, so that the file is one of JSON lines."""
        self.bodies.append(body)
        if into is not None:
            with into.open("ab") as file:
                file.write(body)

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        """Run until interrupted."""
        self._server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python sink.py FILE")
    with suppress(KeyboardInterrupt):
        Sink(port=4318, into=Path(sys.argv[1])).serve()
