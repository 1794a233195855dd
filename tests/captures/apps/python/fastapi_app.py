"""FastAPI with another FastAPI app mounted below /mounted.

`python fastapi_app.py contrib`: the contrib instrumentation is on the outer app only, as its documentation shows,
and FastAPI's own telemetry takes the mounted one for a second server: two SERVER spans in unrelated traces for
one request. `python fastapi_app.py bare`: FastAPI's own telemetry alone, which captures no headers. `python
fastapi_app.py native`: the same with middleware that puts them onto the span.
"""

import sys

import answers
import asgi
import telemetry
from fastapi import Depends, FastAPI, Request, Response
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

provider = telemetry.start()
# Without its operation spans, or else what a handler sets would land on one of them.
app = FastAPI(telemetry={"operation_spans": False})
mounted = FastAPI()


async def keep_body(request: Request) -> bytes:
    """The body goes onto the SERVER span."""
    body = await request.body()
    telemetry.capture_body(body)
    return body


@app.api_route("/by/header", methods=["GET", "HEAD", "OPTIONS"])
@app.api_route("/by/header/", methods=["GET", "HEAD", "OPTIONS"])
async def by_header(request: Request) -> Response:
    return Response(status_code=204 if request.method == "OPTIONS" else 200)


async def by_other() -> Response:
    return Response()


for source in answers.PLAIN:
    app.add_api_route(f"/by/{source}", by_other)


@app.get("/by/jwt")
async def by_jwt(request: Request) -> Response:
    return Response(status_code=answers.jwt(request.headers.get("authorization")))


@app.get("/orgs/{org:path}/items")  # ASGI decodes the path before it is routed
@app.get("/orgs/{org}/items/")
@app.get("/orgs/{org}/items")
@app.get("/organisations/{org}/items")
async def items(org: str) -> Response:
    return Response(status_code=answers.items(org))


@app.post("/by/body")
async def by_body(body: bytes = Depends(keep_body)) -> Response:
    return Response(status_code=answers.create(body))


@app.post("/by/metadata")
async def by_metadata(request: Request) -> Response:
    return Response(status_code=answers.session(request.headers.get("x-session")))


@app.post("/chat/completions")
async def chat(request: Request) -> Response:
    return Response(status_code=answers.complete(await request.body()))


@app.get("/lookup/{name}")
async def lookup(name: str) -> Response:
    return Response(status_code=answers.lookup(name))


@app.get("/fail")
async def fail() -> Response:
    return Response(status_code=500)


@app.get("/healthz")
async def health() -> Response:
    return Response()


@mounted.get("/items")
async def mounted_items() -> Response:
    return Response()


app.mount("/mounted", mounted)
if sys.argv[1] == "native":
    app.add_middleware(telemetry.KeepHeaders)
if sys.argv[1] == "contrib":
    FastAPIInstrumentor.instrument_app(app)
asgi.serve(app, provider)
