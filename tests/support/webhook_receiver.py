"""An HTTP server that takes webhooks as a user's would, and says what it was told to say."""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web


@dataclass
class Received:
    """One delivery as it arrived."""

    body: bytes
    signature: str


@dataclass
class WebhookReceiver:
    """Answers with the next of `statuses`, and with 200 when there are none left."""

    statuses: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    url: str = ""

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._take, access_log=None))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/webhook"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.BaseRequest) -> web.StreamResponse:
        self.received.append(Received(await request.read(), request.headers.get("Stripe-Signature", "")))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)
