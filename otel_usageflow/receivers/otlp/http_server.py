"""The OTLP/HTTP port: opening it, and closing it without losing what is in flight."""

import asyncio
from typing import Self

from aiohttp import web

from otel_usageflow.config.types import HostPort
from otel_usageflow.errors import CannotListen
from otel_usageflow.receivers.otlp.config import Http
from otel_usageflow.receivers.otlp.http import TraceEndpoint
from otel_usageflow.receivers.otlp.tls import ssl_context

_LINGER = 5.0  # seconds to read what a refused client is still sending, so that it gets to see the refusal
_LAST_BYTES = 0.5  # seconds for an answer to be written after its handler has returned


class HttpServer:
    """One listening OTLP/HTTP endpoint."""

    def __init__(self, config: Http, path: str, traces: TraceEndpoint, *, grace: float) -> None:
        self._config = config
        self._path = path
        self._traces = traces
        self._grace = grace
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._site: web.TCPSite | None = None
        self._runner: web.ServerRunner | None = None
        self.address = config.endpoint
        """Where it listens; the port is the bound one once it is entered."""

    async def __aenter__(self) -> Self:
        tls = self._config.tls
        context = None if tls is None else ssl_context(tls, f"{self._path}::tls")
        server = web.Server(
            self._handle,
            access_log=None,
            auto_decompress=False,  # it knows no limit
            keepalive_timeout=self._config.idle_timeout.total_seconds(),
            lingering_time=_LINGER,
        )
        runner = web.ServerRunner(server, shutdown_timeout=_LAST_BYTES)
        await runner.setup()
        endpoint = self._config.endpoint
        site = web.TCPSite(runner, endpoint.host, endpoint.port, ssl_context=context)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise CannotListen(f"{self._path}::endpoint", str(endpoint), error) from error
        self._site, self._runner = site, runner
        self.address = HostPort(endpoint.host, runner.addresses[0][1])
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening at once, finish the requests in flight within the grace, cut the others off."""
        site, runner = self._site, self._runner
        if site is None or runner is None or runner.server is None:
            return
        self._site = self._runner = None
        await site.stop()
        await asyncio.sleep(0)  # requests that have arrived begin
        runner.server.pre_shutdown()  # closes what is idle
        try:
            async with asyncio.timeout(self._grace):
                await self._idle.wait()
        except TimeoutError:
            pass
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        self._in_flight += 1
        self._idle.clear()
        try:
            return await self._traces.handle(request)
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()
