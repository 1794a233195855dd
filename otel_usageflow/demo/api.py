"""The sample API, instrumented as its documentation says: `python -m otel_usageflow.demo.api`, a process of its own.

Nothing here knows about billing. The instrumentation puts method, path, status and the captured request headers on
each SERVER span; the handler adds one attribute, the number of tokens. Settings come from the environment, as for
any service (`settings.py`). It prints its port, then a line of JSON for every batch of spans that was acknowledged.
"""

import json
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import jwt
import uvicorn
from fastapi import FastAPI, Header, HTTPException
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_usageflow.demo.cast import JWT_SECRET
from otel_usageflow.demo.exporter import Acknowledged, PersistentExporter

# Without FastAPI's own operation spans the handler's current span is the SERVER span.
app = FastAPI(telemetry={"operation_spans": False})


@app.post("/v1/chat/completions")
async def chat(question: dict[str, Any]) -> dict[str, Any]:
    """Answer; the answer has as many tokens as the question asks for. A question may also break it."""
    tokens = int(question["tokens"])
    if tokens < 0:
        raise HTTPException(500, "out of memory")
    trace.get_current_span().set_attribute("app.tokens", tokens)
    return {"answer": "certainly", "tokens": tokens}


@app.get("/v1/search")
async def search(q: str, x_api_key: Annotated[str, Header()]) -> dict[str, Any]:
    """Search; some words are not found."""
    if q == "nothing":
        raise HTTPException(404, "no match")
    return {"found": [q]}


@app.post("/v1/reports")
async def report(authorization: Annotated[str, Header()]) -> dict[str, Any]:
    """Make a report for the tenant of a valid token."""
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), JWT_SECRET, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401, "invalid token") from None
    return {"report": claims["org"]["tenant"]}


@app.get("/v1/files/{org}/{number}")
async def file(org: str, number: int) -> dict[str, Any]:
    """Read a file of an organisation."""
    if number == 0:
        raise HTTPException(404, "no such file")
    return {"org": org, "number": number}


@app.get("/healthz")
async def health() -> dict[str, Any]:
    """Alive; nobody is billed for asking."""
    return {"status": "ok"}


def _tell(done: Acknowledged) -> None:
    sys.stdout.write(json.dumps(done._asdict()) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve on a free port until SIGTERM, then send the spans that are left."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(PersistentExporter(Path(sys.argv[1]), _tell)))
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(app)
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again once it has stopped
    try:
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
    finally:
        provider.shutdown()


if __name__ == "__main__":
    main()
