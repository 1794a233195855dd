"""The extension `admin`: an HTTP port on which other components put pages for people and for callbacks.

A page is for this machine only unless it is mounted as public. On a listener beyond loopback only public pages can be
mounted; on loopback, the others answer only to a browser that asked for this machine by name, so that no web page can
reach them by pointing a name of its own at 127.0.0.1 (DNS rebinding), and no proxy passes them on by mistake.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Self
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from pydantic import AfterValidator

from otel_usageflow.component import Context, Factory, Kind
from otel_usageflow.config.types import ConfigModel, Endpoint, HostPort
from otel_usageflow.errors import StartError
from otel_usageflow.extensions.listener import listen

_log = structlog.get_logger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer, unless its page says otherwise: nothing is kept, framed, or told to the next site."""
_MOST_CONNECTIONS = 256
"""More are closed at once: who opens them must not use up the files that this process may have open."""
_IDLE = 20.0
"""Seconds for which a connection may say nothing, or not come to the end of its headers."""
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "CF-Connecting-IP")


def _host_name(name: str) -> str:
    if not name or "/" in name or any(character.isspace() for character in name):
        raise ValueError(f"{name!r} is no host name; write it without scheme, port and path")
    return name.lower()


class AdminTls(ConfigModel):
    """HTTPS."""

    cert_file: str
    key_file: str


class AdminConfig(ConfigModel):
    """`extensions: admin:`."""

    endpoint: Endpoint = HostPort("127.0.0.1", 8080)
    """Where to listen. Beyond loopback, only pages that are meant for everybody are served."""
    tls: AdminTls | None = None
    hosts: list[Annotated[str, AfterValidator(_host_name)]] = []
    """Further names by which people of this machine ask for it, besides localhost and loopback addresses."""


@dataclass(frozen=True, slots=True)
class Page:
    """What is mounted. `public`: meant for everybody who can reach the listener."""

    method: str
    path: str
    handler: Handler
    summary: str
    public: bool


class Admin:
    """Serves what other components mount."""

    def __init__(self, config: AdminConfig, context: Context) -> None:
        self._config = config
        self._id = context.id
        self._pages: dict[str, dict[str, Page]] = {}
        self._runner: web.ServerRunner | None = None
        self.address = config.endpoint
        """Where it listens; the port is the bound one once it is entered."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return _is_loopback(self._config.endpoint.host)

    def mount(self, method: str, path: str, handler: Handler, summary: str, *, public: bool = False) -> None:
        """Serve a page from now on. Only this method is answered: a HEAD is not a GET here.

        Args:
            method: in upper case.
            path: the whole of it, as `/connect/callback`.
            summary: for the list at `/`.
            public: whether everybody who can reach the listener may ask for it, under any name.

        Raises:
            StartError: the path is taken, or the page is not for everybody and the listener is.
        """
        where = f"extensions::{self._id}"
        if path == "/" or method in self._pages.get(path, {}):
            raise StartError(
                f"{where}: {method} {path} is mounted already; give this component another path, "
                "or an admin extension of its own"
            )
        if not public and not self.loopback:
            raise StartError(
                f"{where}::endpoint: {path} ({summary}) must not be reachable from other machines; listen on "
                "127.0.0.1, and keep public pages on an extension of their own, as admin/public"
            )
        self._pages.setdefault(path, {})[method] = Page(method, path, handler, summary, public)

    async def __aenter__(self) -> Self:
        where = f"extensions::{self._id}"
        tls = None if self._config.tls is None else _ssl_context(self._config.tls, f"{where}::tls")
        server = _Server(self._answer, access_log=None, keepalive_timeout=_IDLE)
        self._runner, self.address = await listen(server, where, self._config.endpoint, tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        answer = await self._answer_to(request)
        if not answer.prepared:
            for name, value in _HEADERS.items():
                answer.headers.setdefault(name, value)
        return answer

    async def _answer_to(self, request: web.BaseRequest) -> web.StreamResponse:
        pages = self._pages.get(request.path, {})
        if not any(page.public for page in pages.values()):
            # Whoever may not see the pages does not learn either which there are.
            if not self.loopback:
                return web.Response(status=404, text="not found\n")
            if (why := self._foreign(request.headers)) is not None:
                return web.Response(status=421, text=why)
            if request.path == "/":
                return self._list(request)
        if not pages:
            return web.Response(
                status=404, text="not found; / lists what is here\n" if self.loopback else "not found\n"
            )
        page = pages.get(request.method)
        if page is None:
            allowed = ", ".join(sorted(pages))
            return web.Response(status=405, headers={"Allow": allowed}, text=f"only {allowed} is allowed here\n")
        if not page.public and (why := self._foreign(request.headers)) is not None:
            return web.Response(status=421, text=why)
        try:
            return await page.handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, headers=error.headers, text=error.text)
        except Exception:  # a page must not take the listener down, nor tell strangers why  # noqa: BLE001
            _log.exception("page_crashed", extension=self._id, path=page.path)
            return web.Response(status=500, text="this page failed; the service's log says why\n")

    def _list(self, request: web.BaseRequest) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"}, text="only GET is allowed here\n")
        pages = [page for path in sorted(self._pages) for page in self._pages[path].values()]
        lines = [f"{page.method:<4} {page.path}  {page.summary}" for page in pages]
        return web.Response(text="otel-usageflow\n\n" + ("\n".join(lines) or "nothing is mounted here") + "\n")

    def _foreign(self, headers: Mapping[str, str]) -> str | None:
        """Why a request for a page of this machine does not look like one from here, or None."""
        if any(name in headers for name in _FORWARDED):
            return "this page is not served through a proxy; ask from the machine that the service runs on\n"
        name = _name_of(headers.get("Host", ""))
        if name in self._config.hosts or name == "localhost" or _is_loopback(name):
            return None
        return "this page is served to this machine only; ask for 127.0.0.1, or see hosts of the extension admin\n"


class _Server(web.Server):
    """Takes no more connections than it should."""

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Close what is too much."""
        super().connection_made(handler, transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()


def _name_of(host: str) -> str:
    """The name in a Host header, in lower case; empty if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if "@" not in host else ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _ssl_context(tls: AdminTls, path: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ValueError) as error:
        raise StartError(
            f"{path}: cannot use cert_file {tls.cert_file} with key_file {tls.key_file}: {error}"
        ) from error
    return context


FACTORY = Factory(kind=Kind.EXTENSION, name="admin", config=AdminConfig, build=Admin, serves="admin")
