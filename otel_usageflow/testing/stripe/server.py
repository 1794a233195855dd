"""The sockets: real HTTP on the loopback interface, and connections that break like real ones."""

import asyncio
import email.utils
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable

from aiohttp import web

from otel_usageflow.testing.stripe.api import Api
from otel_usageflow.testing.stripe.message import Answer, Call, Dropped, Request

API_VERSION = "2026-10-28.endive"
_ABORT = struct.pack("ii", 1, 0)

Control = Callable[[str, str, str, bytes], Awaitable[Answer]]
"""(method, path, query, body) -> answer, for everything below `/_double/`."""


class Server:
    """Serves an `Api` on 127.0.0.1.

    Args:
        calls: where calls are remembered, the oldest forgotten first.
        port: 0 picks a free one.
    """

    def __init__(
        self, api: Api, control: Control, calls: deque[Call], changed: Callable[[], None], port: int
    ) -> None:
        self._api, self._control, self._calls, self._changed = api, control, calls, changed
        self._port = port
        self._runner: web.ServerRunner | None = None
        self._count = 0
        self.url = ""

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        server = web.Server(self._handle, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Break what hangs, answer what is being worked on, close."""
        self._api.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        path, _, query = http.raw_path.partition("?")
        body = await http.read()
        if path.startswith("/_double/"):
            answer = await self._control(http.method, path.removeprefix("/_double/"), query, body)
            return web.Response(status=answer.status, body=answer.encode(), content_type="application/json")
        self._count += 1
        request = Request(
            http.method,
            path,
            query,
            http.headers,
            body,
            f"req_{self._count:014d}",
            lambda: http.transport is not None and not http.transport.is_closing(),
        )
        status = 0
        try:
            answer = await self._api.answer(request)
            status = answer.status
        except Dropped:
            _reset(http)
            return web.Response(status=500)  # never sent: the connection is gone
        finally:
            self._remember(request, status)
        return web.Response(status=status, body=answer.encode(), headers=self._headers(request, answer))

    def _headers(self, request: Request, answer: Answer) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Date": email.utils.formatdate(self._api.shared.clock.now(), usegmt=True),
            "Request-Id": request.id,
            "Stripe-Version": request.headers.get("Stripe-Version", API_VERSION),
            **answer.headers,
        }
        key = request.headers.get("Idempotency-Key")
        if key is not None:
            headers["Idempotency-Key"] = key
        return headers

    def _remember(self, request: Request, status: int) -> None:
        if self._calls.maxlen:
            at = self._api.shared.clock.now()
            form = dict(request.pairs)
            self._calls.append(Call(request.method, request.path, form, request.headers, status, request.id, at))
        self._changed()


def _reset(http: web.BaseRequest) -> None:
    transport = http.transport
    if transport is None:
        return
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        # With a linger time of 0 the kernel sends RST instead of FIN: the client sees a reset, not an end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    assert isinstance(transport, asyncio.WriteTransport)
    transport.abort()
