"""ASGI middleware: FastAPI, Starlette, Django's ASGI, and any other app."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from otel_usageflow.sdk.made import make
from otel_usageflow.sdk.processor import BillingSpanProcessor
from otel_usageflow.sdk.request import AsgiRequest
from otel_usageflow.sdk.user import FindUser
from otel_usageflow.sdk.visit import CURRENT, Visit

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

MARK = "otel_usageflow"
"""Key in the scope of a request that is taken: an app that is mounted in another is the same request."""


class AsgiMiddleware:
    """Knows the request while it is served, so that the user is found in the process; makes a span where nobody does.

    Args:
        app: what it goes around.
        processor: where requests go.
        user: finds the user.
        prepare: called before each request; `install` finds tracer providers that were set late with it.
    """

    def __init__(
        self,
        app: App,
        processor: BillingSpanProcessor,
        user: FindUser | None = None,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self.app = app
        self._processor = processor
        self._user = user
        self._prepare = prepare

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._flushing(send))
        elif scope["type"] not in {"http", "websocket"} or MARK in scope:
            await self.app(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._prepare()
        scope[MARK] = True
        request = AsgiRequest(scope)
        mine = Visit(request, self._user)
        visit = self._processor.adopt(mine)
        token = CURRENT.set(visit)
        start = time.time_ns()
        status: int | None = None
        failed = False

        async def watched(message: Message) -> None:
            nonlocal status
            kind = message["type"]
            if kind == "http.response.start":
                status = message["status"]
            elif status is None:
                # A WebSocket that is closed before it was accepted is answered with 403 (ASGI, "Close").
                status = {"websocket.accept": 101, "websocket.close": 403}.get(kind)
                status = message["status"] if kind == "websocket.http.response.start" else status
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            failed = True
            status = 500 if status is None else status  # what a server answers when the app raises
            raise
        finally:
            CURRENT.reset(token)
            if visit.span_id is None:
                visit.route = _route(scope)
                make(self._processor, visit, request, start, status, failed)

    def _flushing(self, send: Send) -> Send:
        """Send what waits before the server ends: uvicorn lets SIGTERM end the process without Python's exit."""

        async def flushing(message: Message) -> None:
            if message["type"] in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
                await asyncio.to_thread(self._processor.force_flush, int(self._processor.limits.exit * 1000))
            await send(message)

        return flushing


def _route(scope: Scope) -> str | None:
    """The template of Starlette's or FastAPI's route, with the prefix that it is mounted under."""
    path = getattr(scope.get("route"), "path", None)
    return f"{scope.get('root_path', '')}{path}" if isinstance(path, str) and path.startswith("/") else None
