"""The extension `health_check`: an HTTP port that says whether spans can be taken.

`/` and `/readyz` answer 200 when nobody has a problem and 503 otherwise, `/livez` always 200. It is started before
the other components and stopped after them, so it also answers while the service starts and drains.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from aiohttp import web
from pydantic import AfterValidator

from otel_usageflow.component import Context, Factory, Kind
from otel_usageflow.config.types import ConfigModel, Endpoint, HostPort, format_duration
from otel_usageflow.extensions.listener import listen

_LIVE = "/livez"
_READY = "/readyz"


def _ready_path(path: str) -> str:
    if not path.startswith("/") or path == _LIVE:
        raise ValueError(f"must start with / and must not be {_LIVE}")
    return path


class HealthCheckConfig(ConfigModel):
    """`extensions: health_check:`."""

    endpoint: Endpoint = HostPort("127.0.0.1", 13133)
    path: Annotated[str, AfterValidator(_ready_path)] = "/"
    """Where readiness is asked for, besides `/readyz`."""


class HealthCheck:
    """Serves readiness and liveness over HTTP."""

    def __init__(self, config: HealthCheckConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._runner: web.ServerRunner | None = None
        self._since = datetime.now(UTC)
        self.address = config.endpoint
        """Where it listens; the port is the bound one once it is entered."""

    async def __aenter__(self) -> Self:
        self._since = datetime.now(UTC)
        server = web.Server(self._answer, access_log=None, keepalive_timeout=60)
        where = f"extensions::{self._context.id}"
        self._runner, self.address = await listen(server, where, self._config.endpoint)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.path not in (self._config.path, _READY, _LIVE):
            return web.Response(status=404, text="not found\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"}, text="only GET is allowed here\n")
        problems = self._context.health.problems()
        live = request.path == _LIVE
        body = report(problems, self._since, datetime.now(UTC))
        return web.json_response(body, status=200 if live or not problems else 503)


def report(problems: Mapping[str, str], since: datetime, now: datetime) -> dict[str, object]:
    """The body of an answer: the Collector's three keys, and who has which problem."""
    uptime = max(now - since, timedelta(0))
    return {
        "status": "Server not available" if problems else "Server available",
        "upSince": since.isoformat(),
        "uptime": format_duration(timedelta(seconds=int(uptime.total_seconds()))),
        "problems": dict(problems),
    }


FACTORY = Factory(kind=Kind.EXTENSION, name="health_check", config=HealthCheckConfig, build=HealthCheck)
