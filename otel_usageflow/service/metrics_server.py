"""The port at which the service's metrics are read: `GET /metrics`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from aiohttp import web

from otel_usageflow.config.types import HostPort
from otel_usageflow.errors import CannotListen
from otel_usageflow.service.exposition import Page

_PATH = "/metrics"


class MetricsServer:
    """Serves a page that is made anew for each request.

    Args:
        page: makes it.
        endpoint: where to listen.
        path: where that stands in the configuration, for messages.
    """

    def __init__(self, page: Callable[[], Awaitable[Page]], endpoint: HostPort, path: str) -> None:
        self._page = page
        self._path = path
        self._runner: web.ServerRunner | None = None
        self.address = endpoint
        """Where it listens; the port is the bound one once it is entered."""

    async def __aenter__(self) -> Self:
        runner = web.ServerRunner(
            web.Server(self._answer, access_log=None, keepalive_timeout=120), shutdown_timeout=0.5
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self.address.host, self.address.port).start()
        except OSError as error:
            await runner.cleanup()
            raise CannotListen(self._path, str(self.address), error) from error
        self._runner = runner
        self.address = HostPort(self.address.host, runner.addresses[0][1])
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.path != _PATH:
            return web.Response(status=404, text=f"not found; the metrics are at {_PATH}\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"}, text="only GET is allowed here\n")
        page = await self._page()
        accept = ",".join(request.headers.getall("Accept", []))
        # With a thousand policies it takes a while, and clients are waiting for their answers meanwhile.
        body, content_type = await asyncio.to_thread(page.written, accept)
        return web.Response(body=body, headers={"Content-Type": content_type})
