"""Flask on Werkzeug's server, with another Flask app below /mounted that WSGI middleware instruments once more."""

import signal
import sys

import answers
import telemetry
from flask import Flask, request
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import WSGIRequestHandler, make_server

provider = telemetry.start()
app = Flask("shop")
mounted = Flask("mounted")
# Before anything else asks to run before a request, or else it would run before the span is there.
FlaskInstrumentor().instrument_app(app)
FlaskInstrumentor().instrument_app(mounted)


@app.before_request
def keep_body() -> None:
    """The body goes onto the SERVER span."""
    if request.path == "/by/body":
        telemetry.capture_body(request.get_data())


@app.route("/by/header", methods=["GET", "HEAD", "OPTIONS"], strict_slashes=False, provide_automatic_options=False)
def by_header() -> tuple[str, int]:
    return "", 204 if request.method == "OPTIONS" else 200


def by_other() -> tuple[str, int]:
    return "", 200


for source in answers.PLAIN:
    app.add_url_rule(f"/by/{source}", view_func=by_other)


@app.get("/by/jwt")
def by_jwt() -> tuple[str, int]:
    return "", answers.jwt(request.headers.get("authorization"))


@app.get("/orgs/<path:org>/items")  # WSGI decodes the path before it is routed
@app.get("/orgs/<org>/items", strict_slashes=False)
@app.get("/orgs/<org>/items/", strict_slashes=False)
@app.get("/organisations/<org>/items")
def items(org: str) -> tuple[str, int]:
    return "", answers.items(org)


@app.post("/by/body")
def by_body() -> tuple[str, int]:
    return "", answers.create(request.get_data())


@app.post("/by/metadata")
def by_metadata() -> tuple[str, int]:
    return "", answers.session(request.headers.get("x-session"))


@app.post("/chat/completions")
def chat() -> tuple[str, int]:
    return "", answers.complete(request.get_data())


@app.get("/lookup/<name>")
def lookup(name: str) -> tuple[str, int]:
    return "", answers.lookup(name)


@app.get("/fail")
def fail() -> tuple[str, int]:
    return "", 500


@app.get("/healthz")
def health() -> tuple[str, int]:
    return "", 200


@mounted.get("/items")
def mounted_items() -> tuple[str, int]:
    return "", 200


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


whole = DispatcherMiddleware(app, {"/mounted": OpenTelemetryMiddleware(mounted)})
server = make_server("127.0.0.1", 0, whole, request_handler=Quiet)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(server.server_port, flush=True)
try:
    server.serve_forever()
finally:
    provider.shutdown()
