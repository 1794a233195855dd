"""One request is one billed span with its user, in every framework, with an instrumentation and without."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path as django_path
from fastapi import FastAPI, HTTPException, Request
from flask import Flask, Response
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from sdk_apps import HEADERS, call_asgi, call_wsgi
from sdk_collector import Collector, collector
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import otel_usageflow.sdk as usageflow

USER = usageflow.header("x-account-id")


@pytest.fixture
def receiver() -> Iterator[Collector]:
    """A receiver."""
    with collector() as running:
        yield running
        usageflow.shutdown()


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    """A tracer provider of the app."""
    made = TracerProvider(shutdown_on_exit=False)
    yield made
    made.shutdown()


def fastapi_app() -> FastAPI:
    app, mounted = FastAPI(telemetry={"tracing": False}), FastAPI(telemetry={"tracing": False})

    @app.get("/items/{item}")
    def items(item: str) -> dict[str, str]:
        if item == "missing":
            raise HTTPException(404)
        if item == "broken":
            raise RuntimeError
        return {"item": item}

    mounted.get("/items/{item}")(items)
    app.mount("/mounted", mounted)
    return app


def starlette_app() -> Starlette:
    async def items(request: Any) -> PlainTextResponse:
        if request.path_params["item"] == "broken":
            raise RuntimeError
        return PlainTextResponse("", 404 if request.path_params["item"] == "missing" else 200)

    routes = [Route("/items/{item}", items)]
    return Starlette(routes=[*routes, Mount("/mounted", Starlette(routes=routes))])


def flask_app() -> Flask:
    app = Flask("shop")

    @app.get("/items/<item>")
    @app.get("/mounted/items/<item>")
    def items(item: str) -> tuple[str, int]:
        if item == "broken":
            raise RuntimeError
        return "", 404 if item == "missing" else 200

    app.logger.setLevel(logging.CRITICAL)
    return app


def django_view(_request: HttpRequest, item: str) -> HttpResponse:
    if item == "broken":
        raise RuntimeError
    return HttpResponse(status=404 if item == "missing" else 200)


urlpatterns = [django_path("items/<item>", django_view), django_path("mounted/items/<item>", django_view)]


def django_app(handler: type) -> Any:
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None, MIDDLEWARE=[], ROOT_URLCONF=__name__, SECRET_KEY="tests"
        )
        django.setup()
    logging.getLogger("django.request").setLevel(logging.CRITICAL)
    return handler()


async def plain_asgi(scope: Any, _receive: Any, send: Any) -> None:
    """The smallest ASGI app."""
    item = scope["path"].rpartition("/")[2]
    if item == "broken":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 404 if item == "missing" else 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def plain_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    """The smallest WSGI app."""
    item = environ["PATH_INFO"].rpartition("/")[2]
    if item == "broken":
        raise RuntimeError
    start_response("404 Not Found" if item == "missing" else "200 OK", [])
    return [b""]


APPS: dict[str, tuple[Any, Any, str | None]] = {
    "fastapi": (fastapi_app, call_asgi, "/items/{item}"),
    "starlette": (starlette_app, call_asgi, "/items/{item}"),
    "flask": (flask_app, call_wsgi, "/items/<item>"),
    "django": (lambda: django_app(WSGIHandler), call_wsgi, None),
    "django-asgi": (lambda: django_app(ASGIHandler), call_asgi, None),
    "asgi": (lambda: plain_asgi, call_asgi, None),
    "wsgi": (lambda: plain_wsgi, call_wsgi, None),
}


@pytest.mark.parametrize("framework", APPS)
def test_a_request_is_one_span(receiver: Collector, framework: str) -> None:
    """Without any instrumentation: method, path, route where it is known, status, and the user, and no query."""
    make, call, route = APPS[framework]
    app = usageflow.install(make(), endpoint=receiver.url, user=USER)
    assert call(app, "/items/caf%C3%A9" if call is call_asgi else "/items/caf\u00c3\u00a9", query="key=s3cret") == 200
    assert call(app, "/items/missing", method="HEAD" if route is None else "GET") == 404
    assert call(app, "/mounted/items/1", headers={"host": "h"}) == 200
    assert usageflow.flush(20)
    first, second, third = receiver.found()
    expected = {
        "http.request.method": "GET",
        "url.path": "/items/caf%C3%A9",
        "url.scheme": "http",
        "server.address": "api.example",
        "http.response.status_code": 200,
        "enduser.id": "acme",
    }
    assert first == expected | ({"http.route": route} if route else {})
    assert (second["http.response.status_code"], second["url.path"]) == (404, "/items/missing")
    assert third["url.path"] == "/mounted/items/1"
    assert third.get("http.route") == (f"/mounted{route}" if route else None)
    assert "enduser.id" not in third
    stats = usageflow.stats()
    assert (stats.taken, stats.made, stats.sent, stats.without_user) == (3, 3, 3, 1)
    assert "s3cret" not in repr(receiver.requests)


@pytest.mark.parametrize("framework", APPS)
def test_an_error_of_the_app_is_the_apps(receiver: Collector, framework: str) -> None:
    """An unhandled error reaches whom it reached before, and the request has the status 500."""
    make, call, _ = APPS[framework]
    raises = framework in {"asgi", "wsgi", "fastapi", "starlette"}
    app = usageflow.install(make(), endpoint=receiver.url, user=USER)
    if raises:
        with pytest.raises(RuntimeError):
            call(app, "/items/broken")
    else:
        assert call(app, "/items/broken") == 500
    assert usageflow.flush(20)
    (span,) = receiver.spans()
    assert receiver.found()[0]["http.response.status_code"] == 500
    assert span.status.code == 2
    assert span.status.message == ""


@pytest.mark.parametrize("first", ["install", "instrument"])
def test_an_instrumentation_is_used(receiver: Collector, provider: TracerProvider, first: str) -> None:
    """Whichever comes first, the app's own SERVER span is billed, with the user found in the process."""
    app = fastapi_app()
    if first == "install":
        usageflow.install(app, endpoint=receiver.url, user=USER, tracer_provider=provider)
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    else:
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
        usageflow.install(app, endpoint=receiver.url, user=USER, tracer_provider=provider)
    assert call_asgi(app, "/items/1") == 200
    assert call_asgi(app, "/mounted/items/1") == 200
    assert usageflow.flush(20)
    assert [found["enduser.id"] for found in receiver.found()] == ["acme", "acme"]
    scopes = {scope.scope.name for request in receiver.requests for scope in request.resource_spans[0].scope_spans}
    assert scopes == {"opentelemetry.instrumentation.fastapi"}
    assert usageflow.stats().made == 0


@pytest.mark.parametrize("contrib", [False, True])
def test_double_instrumentation_is_one_request(receiver: Collector, provider: TracerProvider, contrib: bool) -> None:
    """FastAPI's own telemetry, alone and below the contrib one with a mounted app: each request counts once."""
    app, mounted = FastAPI(telemetry={"tracer_provider": provider}), FastAPI(telemetry={"tracer_provider": provider})
    mounted.get("/items/{item}")(lambda item: item)
    app.get("/items/{item}")(lambda item: item)
    app.mount("/mounted", mounted)
    if contrib:
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    usageflow.install(app, endpoint=receiver.url, user=USER, tracer_provider=provider)
    assert call_asgi(app, "/items/1") == call_asgi(app, "/mounted/items/1") == 200
    assert usageflow.flush(20)
    assert [found["enduser.id"] for found in receiver.found()] == ["acme", "acme"]
    assert usageflow.stats().taken == 2
    assert usageflow.stats().made == 0


def test_handlers_say_who_and_how_much(receiver: Collector, provider: TracerProvider) -> None:
    """`set_user` goes before the `user` function, and `add` sums from wherever the handler works, exactly."""
    app = FastAPI(telemetry={"tracing": False})

    @app.get("/chat")
    async def chat(request: Request) -> dict[str, str]:
        usageflow.set_user("globex")
        with provider.get_tracer("app").start_as_current_span("model"):
            usageflow.add("app.tokens", 5)
            await asyncio.gather(*(asyncio.to_thread(usageflow.add, "app.tokens", 1) for _ in range(10)))
        usageflow.add("app.credits", Decimal("0.10"))
        usageflow.add("app.credits", Decimal("0.20"))
        return {}

    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    usageflow.install(app, endpoint=receiver.url, user=USER, tracer_provider=provider)
    call_asgi(app, "/chat")
    assert usageflow.flush(20)
    (found,) = receiver.found()
    assert (found["enduser.id"], found["app.tokens"], found["app.credits"]) == ("globex", 15, "0.30")


def test_mistakes_do_not_reach_the_app(receiver: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """A `user` function that raises, a float as a quantity, a user that is no text: served, counted, said once."""
    app = FastAPI(telemetry={"tracing": False})

    @app.get("/chat")
    def chat() -> dict[str, str]:
        usageflow.add("app.tokens", 1)
        usageflow.add("app.tokens", 0.5)  # type: ignore[arg-type]
        usageflow.set_user(object())  # type: ignore[arg-type]
        return {}

    def broken(_request: usageflow.Request) -> str:
        raise KeyError("s3cret")

    usageflow.install(app, endpoint=receiver.url, user=broken)
    assert call_asgi(app, "/chat") == call_asgi(app, "/chat") == 200
    assert usageflow.flush(20)
    assert [found.keys() & {"app.tokens", "enduser.id"} for found in receiver.found()] == [set(), set()]
    assert usageflow.stats().mistakes == 6
    warnings = [record.getMessage() for record in caplog.records if record.name == "otel_usageflow.sdk"]
    assert len(warnings) == 1
    assert "s3cret" not in warnings[0]


def test_what_the_app_has_authenticated_is_seen(receiver: Collector) -> None:
    """The function is called after the app, so that it sees what authentication has put on the request."""
    app = FastAPI(telemetry={"tracing": False})

    @app.get("/chat")
    def chat(request: Request) -> dict[str, str]:
        request.state.account = "acme"
        return {}

    usageflow.install(app, endpoint=receiver.url, user=lambda request: request.raw["state"]["account"])
    call_asgi(app, "/chat")
    assert usageflow.flush(20)
    assert [found["enduser.id"] for found in receiver.found()] == ["acme"]


def test_a_streamed_response_is_one_request(receiver: Collector) -> None:
    """The request ends with its last part; what the stream says on its way is part of it."""
    app = Flask("shop")

    @app.get("/stream")
    def stream() -> Response:
        def parts() -> Iterator[str]:
            for _ in range(3):
                usageflow.add("app.chunks", 1)
                yield "x"

        return Response(parts())

    usageflow.install(app, endpoint=receiver.url, user=USER)
    assert call_wsgi(app, "/stream") == 200
    assert usageflow.flush(20)
    assert [(found["app.chunks"], found["http.response.status_code"]) for found in receiver.found()] == [(3, 200)]


def test_a_websocket_is_one_request(receiver: Collector) -> None:
    """From its handshake to its end, with status 101 if the app took it, and 403 if not."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept" if scope["path"] == "/yes" else "websocket.close"})

    installed = usageflow.install(app, endpoint=receiver.url, user=USER)

    async def nothing(*_: Any) -> None:
        """Neither sends nor receives."""

    for path in ("/yes", "/no"):
        headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        scope = {"type": "websocket", "path": path, "query_string": b"", "headers": headers, "scheme": "ws"}
        asyncio.run(installed(scope, nothing, nothing))  # type: ignore[arg-type]
    assert usageflow.flush(20)
    assert [found["http.response.status_code"] for found in receiver.found()] == [101, 403]
    assert {found["http.request.method"] for found in receiver.found()} == {"GET"}


def test_concurrent_requests_do_not_mix(receiver: Collector) -> None:
    """Many threads, each with a user of its own: every request has the one that it came with."""
    app = flask_app()
    usageflow.install(app, endpoint=receiver.url, user=USER)

    def some(name: str) -> None:
        for _ in range(20):
            call_wsgi(app, f"/items/{name}", headers={**HEADERS, "x-account-id": name})

    threads = [threading.Thread(target=some, args=(f"user-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert usageflow.flush(20)
    pairs = [(found["url.path"].rpartition("/")[2], found["enduser.id"]) for found in receiver.found()]
    assert len(pairs) == 160
    assert all(path == user for path, user in pairs)


def test_the_traces_of_the_app_are_its_own(receiver: Collector) -> None:
    """A span that is made for billing is never the current one, and changes nothing that is propagated."""
    seen: list[bool] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().is_valid)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    call_asgi(usageflow.install(app, endpoint=receiver.url), "/")
    assert seen == [False]


def test_the_pieces_by_themselves(receiver: Collector, provider: TracerProvider) -> None:
    """Only the span processor: the user from the attributes, or from `set_user`, under another name."""
    processor = usageflow.BillingSpanProcessor(
        receiver.url, user=lambda attributes: attributes.get("app.account"), attribute="user.id"
    )
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("GET /a", kind=SpanKind.SERVER, attributes={"app.account": "acme"}):
        pass
    with tracer.start_as_current_span("GET /b", kind=SpanKind.SERVER), tracer.start_as_current_span("inner"):
        usageflow.set_user("globex")
    with tracer.start_as_current_span("a job"):
        usageflow.set_user("nobody's request")
    assert processor.force_flush()
    assert [found["user.id"] for found in receiver.found()] == ["acme", "globex"]
    assert processor.stats().sent == 2


def test_settings_that_cannot_be_are_errors_at_the_start(receiver: Collector) -> None:
    """A wrong endpoint, what is no app, and two different settings of a process are refused, with the reason."""
    with pytest.raises(ValueError, match="is no http:// or https:// URL"):
        usageflow.install(plain_asgi, endpoint="localhost:4318")
    usageflow.install(plain_asgi, endpoint=receiver.url)
    with pytest.raises(ValueError, match="other settings"):
        usageflow.install(plain_asgi, endpoint=receiver.url, attribute="user.id")
    with pytest.raises(TypeError, match="is no app"):
        usageflow.install("app", endpoint=receiver.url)
