"""A proxy that remembers what goes through it, both ways: for tests of what is said on the wire."""

from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from aiohttp import web


class Exchange(NamedTuple):
    """One call and its answer."""

    method: str
    path: str
    query: str
    body: bytes
    status: int
    answer: bytes


class RecordingProxy:
    """Hands every call on to `target`, and keeps it in `exchanges`."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.exchanges: list[Exchange] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _handle(self, http: web.BaseRequest) -> web.Response:
        body = await http.read()
        path, _, query = http.raw_path.partition("?")
        headers = {name: value for name, value in http.headers.items() if name.lower() not in ("host", "connection")}
        async with self._client.request(
            http.method, self._target + http.raw_path, data=body, headers=headers
        ) as answer:
            said = await answer.read()
            self.exchanges.append(Exchange(http.method, path, query, body, answer.status, said))
            return web.Response(status=answer.status, body=said, headers={"Content-Type": "application/json"})
