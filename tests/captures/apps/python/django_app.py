"""Django: the settings, routes and views, served by gunicorn or by the standard library's wsgiref.

`python django_app.py gunicorn|wsgiref|remedies`. The second server gives a WSGI application no raw target, as some
others do, so that the spans have no path under the stable names. The third is the second with what page/remedies.md
says.
"""

import logging
import signal
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import answers
import telemetry
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from gunicorn.app.base import BaseApplication
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span


def respond(status: Callable[..., int]) -> Callable[..., HttpResponse]:
    """A view from a function of the request and the route's parameters to a status."""

    @csrf_exempt
    def view(request: HttpRequest, **parameters: str) -> HttpResponse:
        return HttpResponse(status=status(request, **parameters))

    return view


ok = respond(lambda _request: 200)
by_header = respond(lambda request: 204 if request.method == "OPTIONS" else 200)
items = respond(lambda _request, org: answers.items(org))

urlpatterns = [
    path("by/header", by_header),
    path("by/header/", by_header),
    path("by/jwt", respond(lambda request: answers.jwt(request.headers.get("authorization")))),
    path("by/body", respond(lambda request: answers.create(request.body))),
    path("by/metadata", respond(lambda request: answers.session(request.headers.get("x-session")))),
    *(path(f"by/{source}", ok) for source in answers.PLAIN),
    path("orgs/<str:org>/items", items),
    path("orgs/<str:org>/items/", items),
    path("orgs/<path:org>/items", items),  # WSGI decodes the path before it is routed
    path("organisations/<str:org>/items", items),
    path("chat/completions", respond(lambda request: answers.complete(request.body))),
    path("lookup/<str:name>", respond(lambda _request, name: answers.lookup(name))),
    path("fail", respond(lambda _request: 500)),
    path("mounted/", include([path("items", ok)])),
    path("healthz", ok),
]


def keep_body(_span: Span, request: HttpRequest) -> None:
    """The instrumentation's hook: the body goes onto the SERVER span."""
    if request.path == "/by/body":
        telemetry.capture_body(request.body)


def instrumented() -> tuple[TracerProvider, Any]:
    """The provider and the WSGI application."""
    settings.configure(
        ALLOWED_HOSTS=["*"],
        APPEND_SLASH=False,
        LOGGING_CONFIG=None,
        MIDDLEWARE=[],
        ROOT_URLCONF=__name__,
        SECRET_KEY="captures",
    )
    logging.getLogger("django.request").setLevel(logging.CRITICAL)
    provider = telemetry.start()
    DjangoInstrumentor().instrument(request_hook=keep_body)
    return provider, get_wsgi_application()


class Gunicorn(BaseApplication):
    """One worker, instrumented after the fork, as gunicorn's users must."""

    provider: TracerProvider

    def load_config(self) -> None:
        self.cfg.set("bind", "127.0.0.1:0")
        self.cfg.set("when_ready", lambda server: print(server.LISTENERS[0].sock.getsockname()[1], flush=True))
        self.cfg.set("worker_exit", lambda _server, _worker: self.provider.shutdown())
        self.cfg.set("loglevel", "error")
        self.cfg.set("control_socket_disable", True)

    def load(self) -> Any:
        self.provider, application = instrumented()
        return application


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def raw_target(app: Callable[..., Any]) -> Callable[..., Any]:
    """WSGI middleware that puts the target together again where the server has not told it."""

    def with_target(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        query = environ.get("QUERY_STRING", "")
        target = quote(path.encode("latin-1"), safe="/") + (f"?{query}" if query else "")
        environ.setdefault("REQUEST_URI", target)
        return app(environ, start_response)

    return with_target


def serve_wsgiref(with_remedies: bool) -> None:
    """Serve until SIGTERM."""
    provider, application = instrumented()
    if with_remedies:
        application = raw_target(application)
    server: WSGIServer = make_server("127.0.0.1", 0, application, handler_class=Quiet)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(server.server_port, flush=True)
    try:
        server.serve_forever()
    finally:
        provider.shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "gunicorn":
        Gunicorn().run()
    else:
        serve_wsgiref(sys.argv[1] == "remedies")
