"""Calling ASGI and WSGI apps without a server, for the SDK's tests."""

import asyncio
import io
from collections.abc import Mapping
from typing import Any

HEADERS = {"host": "api.example:8000", "x-account-id": "acme"}


def call_asgi(app: Any, path: str, method: str = "GET", query: str = "", headers: Mapping[str, str] = HEADERS) -> int:
    """One request; the status."""
    statuses: list[int] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }

    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()  # the client stays
        return messages.pop()

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    asyncio.run(app(scope, receive, send))
    return statuses[0]


def call_wsgi(app: Any, path: str, method: str = "GET", query: str = "", headers: Mapping[str, str] = HEADERS) -> int:
    """One request, as a server does it; the status."""
    statuses: list[str] = []
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    } | {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    response = app(environ, lambda status, *_: statuses.append(status))
    try:
        for _ in response:
            pass
    finally:
        getattr(response, "close", lambda: None)()
    return int(statuses[0][:3])
