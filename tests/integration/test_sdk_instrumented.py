"""The SDK with the instrumentations of Flask, Django and Starlette, and with gunicorn's workers.

They run in the environment that the captures were recorded in, which `.ci/run` prepares.
"""

import http.client
import os
import subprocess
from pathlib import Path

import pytest
from processes import free_port
from sdk_collector import Collector, collector, until

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "tests/captures/.venv/python/bin/python"
pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="needs tests/captures/.venv/python, which .ci/run prepares"
)

BEGIN = """
import logging, sys
import otel_usageflow.sdk as usageflow
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from sdk_apps import HEADERS, call_asgi, call_wsgi
trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF))
user = usageflow.header("x-account-id")
endpoint = sys.argv[1]
"""
FLASK = """
from flask import Flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor
app = Flask("shop")
app.get("/items/<item>")(lambda item: item)
"""
DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from opentelemetry.instrumentation.django import DjangoInstrumentor
urlpatterns = [path("items/<item>", lambda request, item: HttpResponse(item))]
settings.configure(ALLOWED_HOSTS=["*"], MIDDLEWARE=[], ROOT_URLCONF=__name__, SECRET_KEY="tests")
"""
STARLETTE = """
from opentelemetry.instrumentation.starlette import StarletteInstrumentor
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
async def items(request):
    return PlainTextResponse(request.path_params["item"])
app = Starlette(routes=[Route("/items/{item}", items)])
"""
INSTALL = "app = usageflow.install(app, endpoint=endpoint, user=user)\n"
PROGRAMS = {
    "flask": (FLASK + "FlaskInstrumentor().instrument_app(app)\n" + INSTALL, "call_wsgi"),
    "flask, installed first": (FLASK + INSTALL + "FlaskInstrumentor().instrument_app(app)\n", "call_wsgi"),
    "django": (DJANGO + "DjangoInstrumentor().instrument()\napp = get_wsgi_application()\n" + INSTALL, "call_wsgi"),
    "starlette": (STARLETTE + "StarletteInstrumentor.instrument_app(app)\n" + INSTALL, "call_asgi"),
    "starlette, installed first": (STARLETTE + INSTALL + "StarletteInstrumentor.instrument_app(app)\n", "call_asgi"),
}
ASK = """
for number in range(20):
    assert {call}(app, f"/items/{{number}}") == 200
assert usageflow.flush(20)
print(usageflow.stats())
"""


def environment(**more: str) -> dict[str, str]:
    """Where the SDK is found, and which conventions are used."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/support")])
    return {**os.environ, "PYTHONPATH": paths, **more}


@pytest.mark.parametrize("conventions", ["", "http", "http/dup"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_an_unsampled_request_is_billed_by_its_own_span(program: str, conventions: str) -> None:
    """An app that samples nothing, in every convention: the instrumentation's span is billed, with its user."""
    code, call = PROGRAMS[program]
    with collector() as state:
        done = subprocess.run(
            [str(PYTHON), "-c", BEGIN + code + ASK.format(call=call), state.url],
            env=environment(OTEL_SEMCONV_STABILITY_OPT_IN=conventions),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "taken=20, made=0, sent=20" in done.stdout
        assert [found["enduser.id"] for found in state.found()] == ["acme"] * 20
        names = {scope.scope.name for request in state.requests for scope in request.resource_spans[0].scope_spans}
        assert all(name.startswith("opentelemetry.instrumentation.") for name in names)


GUNICORN = (
    BEGIN.replace("sys.argv[1]", "os.environ['ENDPOINT']").replace("logging, sys", "logging, os, sys")
    + FLASK
    + "FlaskInstrumentor().instrument_app(app)\n"
    + INSTALL.replace("user=user", "user=user, limits=usageflow.Limits(delay=60.0)")
    + "call_wsgi(app, '/items/preloaded')\n"
)


def ask(port: int, path: str) -> bool:
    """Whether a request is answered."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        client.request("GET", path, headers={"x-account-id": "acme"})
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()


def served_by_gunicorn(state: Collector, folder: Path, *options: str) -> None:
    """Serve twenty requests by two workers, and end the server."""
    (folder / "shop.py").write_text(GUNICORN)
    port = free_port()
    command = [str(PYTHON), "-m", "gunicorn", "--workers=2", f"--bind=127.0.0.1:{port}", "--log-level=error"]
    server = subprocess.Popen([*command, *options, "shop:app"], cwd=folder, env=environment(ENDPOINT=state.url))
    try:
        until(lambda: ask(port, "/items/first"))
        assert all(ask(port, f"/items/{number}") for number in range(20))
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("options", [["--preload"], [], ["--threads=4"]])
def test_workers_bill_their_own_requests(tmp_path: Path, options: list[str]) -> None:
    """Before the fork or after it: what workers served is sent once, at their end, and the parent's as well."""
    with collector() as state:
        served_by_gunicorn(state, tmp_path, *options)
        paths = sorted(found["url.path"] for found in state.found())
        preloaded = paths.count("/items/preloaded")
        assert preloaded == (1 if options == ["--preload"] else 2)
        assert paths[: -1 - preloaded] == sorted(f"/items/{number}" for number in range(20))
        assert len({span.span_id for span in state.spans()}) == len(paths) == 21 + preloaded
