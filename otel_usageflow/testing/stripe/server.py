"""The sockets: real HTTP on the loopback interface, and connections that break like real ones."""

import asyncio
import email.utils
import socket
import ssl
import struct
import tempfile
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path

from aiohttp import web

from otel_usageflow.testing.stripe.api import Api
from otel_usageflow.testing.stripe.certificates import Certificate, server_context
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
        certificate: what it shows over TLS; None for plain HTTP.
    """

    def __init__(
        self,
        api: Api,
        control: Control,
        calls: deque[Call],
        changed: Callable[[], None],
        port: int,
        certificate: Certificate | None = None,
    ) -> None:
        self._api, self._control, self._calls, self._changed = api, control, calls, changed
        self._port, self._certificate = port, certificate
        self._tls: ssl.SSLContext | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._site: web.TCPSite | None = None
        self.authority: Path | None = None
        """The file of the authority that signs the certificate."""
        self._runner: web.ServerRunner | None = None
        self._transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self._count = 0
        self.url = ""

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        if self._certificate is not None:
            self._folder = tempfile.TemporaryDirectory()
            self._tls, self.authority = server_context(self._certificate, Path(self._folder.name))
        server = web.Server(self._handle, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        await self.listen()
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    async def listen(self) -> None:
        """Take connections."""
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls)
        await self._site.start()
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Take no connections, and break those there are, until `listen`."""
        if self._site is not None:
            await self._site.stop()
        for transport in list(self._transports):
            transport.abort()

    async def stop(self) -> None:
        """Break what hangs, answer what is being worked on, close."""
        self._api.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._folder is not None:
            self._folder.cleanup()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        if isinstance(http.transport, asyncio.WriteTransport):
            self._transports.add(http.transport)
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
        response = web.Response(status=status, body=answer.encode(), headers=self._headers(request, answer))
        return await self._half(http, response) if answer.stall else response

    async def _half(self, http: web.BaseRequest, whole: web.Response) -> web.StreamResponse:
        """Send the headers and half of the body, and no more until the double stops."""
        assert isinstance(whole.body, bytes)
        response = web.StreamResponse(status=whole.status, headers=whole.headers)
        response.content_length = len(whole.body)
        await response.prepare(http)
        await response.write(whole.body[: len(whole.body) // 2])
        await self._api.stopped()
        _reset(http)
        return response

    def _headers(self, request: Request, answer: Answer) -> dict[str, str]:
        shared = self._api.shared
        headers = {
            "Content-Type": "application/json",
            "Date": _date(int(shared.clock.now() + shared.settings.date_skew)),
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


@lru_cache(maxsize=4)
def _date(moment: int) -> str:
    return email.utils.formatdate(moment, usegmt=True)


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
