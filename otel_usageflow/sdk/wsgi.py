"""WSGI middleware: Flask, Django, and any other app."""

import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from otel_usageflow.sdk.made import make
from otel_usageflow.sdk.processor import BillingSpanProcessor
from otel_usageflow.sdk.request import WsgiRequest
from otel_usageflow.sdk.user import FindUser
from otel_usageflow.sdk.visit import CURRENT, Visit

Environ: TypeAlias = MutableMapping[str, Any]
StartResponse: TypeAlias = Callable[..., Any]
App: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

MARK = "otel_usageflow"
"""Key in the environ of a request that is taken: an app that is mounted in another is the same request."""


class WsgiMiddleware:
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

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        if MARK in environ:
            return self.app(environ, start_response)
        self._prepare()
        environ[MARK] = True
        response = _Response(self._processor, WsgiRequest(environ), self._user)

        def watched(status: str, *rest: Any, **more: Any) -> Any:
            response.status = int(status[:3]) if status[:3].isdigit() else None
            return start_response(status, *rest, **more)

        try:
            with response.current():
                response.body = self.app(environ, watched)
        except Exception:
            response.failed = True
            response.status = 500  # what a server answers when the app raises
            response.complete()
            raise
        return response


class _Response:
    """The app's response; the request ends when the server closes it (PEP 3333)."""

    def __init__(self, processor: BillingSpanProcessor, request: WsgiRequest, user: FindUser | None) -> None:
        self._processor = processor
        self._request = request
        self._visit = processor.adopt(Visit(request, user))
        self._start = time.time_ns()
        self._done = False
        self.status: int | None = None
        self.failed = False
        self.body: Iterable[bytes] = ()

    @contextmanager
    def current(self) -> Iterator[None]:
        """While the app runs, this request is the current one."""
        token = CURRENT.set(self._visit)
        try:
            yield
        finally:
            CURRENT.reset(token)

    def __iter__(self) -> Iterator[bytes]:
        with self.current():
            parts = iter(self.body)
        while True:
            with self.current():
                try:
                    part = next(parts)
                except StopIteration:
                    return
                except Exception:
                    self.failed = True
                    raise
            yield part

    def close(self) -> None:
        """The server is done with the response."""
        try:
            close = getattr(self.body, "close", None)
            if close is not None:
                with self.current():
                    close()
        finally:
            self.complete()

    def complete(self) -> None:
        """Hand the request over, if no instrumentation has reported it."""
        if self._done:
            return
        self._done = True
        if self._visit.span_id is None:
            make(self._processor, self._visit, self._request, self._start, self.status, self.failed)
