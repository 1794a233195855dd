"""aiohttp's server with another application below /mounted.

`python aiohttp_app.py plain`: the instrumentation takes the place of `web.Application`, as its documentation shows.
`python aiohttp_app.py remedies`: with what page/remedies.md says for aiohttp.
"""

import asyncio
import signal
import sys

import answers
import telemetry
from aiohttp import web
from aiohttp.typedefs import Handler
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor

PlainApplication = web.Application

provider = telemetry.start()
AioHttpServerInstrumentor().instrument()


@web.middleware
async def whole_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put onto the span what the instrumentation leaves out."""
    span = trace.get_current_span()
    span.set_attribute("http.target", request.raw_path)
    for name in {"x-account-id"} & {name.lower() for name in request.headers}:
        span.set_attribute(f"http.request.header.{name.replace('-', '_')}", request.headers.getall(name))
    return await handler(request)


if sys.argv[1] == "remedies":
    app = web.Application(middlewares=[whole_request])
    mounted = PlainApplication()
else:
    app = web.Application()
    mounted = web.Application()


async def ok(_request: web.Request) -> web.Response:
    return web.Response()


async def by_header(request: web.Request) -> web.Response:
    return web.Response(status=204 if request.method == "OPTIONS" else 200)


async def by_jwt(request: web.Request) -> web.Response:
    return web.Response(status=answers.jwt(request.headers.get("authorization")))


async def items(request: web.Request) -> web.Response:
    return web.Response(status=answers.items(request.match_info["org"]))


async def by_body(request: web.Request) -> web.Response:
    body = await request.read()
    telemetry.capture_body(body)
    return web.Response(status=answers.create(body))


async def by_metadata(request: web.Request) -> web.Response:
    return web.Response(status=answers.session(request.headers.get("x-session")))


async def chat(request: web.Request) -> web.Response:
    return web.Response(status=answers.complete(await request.read()))


async def lookup(request: web.Request) -> web.Response:
    return web.Response(status=answers.lookup(request.match_info["name"]))


async def fail(_request: web.Request) -> web.Response:
    return web.Response(status=500)


async def serve() -> None:
    """Serve on a free port, which is printed, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await stop.wait()
    await runner.cleanup()


app.add_routes(
    [
        *(web.get(path, by_header) for path in ("/by/header", "/by/header/")),
        web.options("/by/header", by_header),
        web.post("/by/body", by_body),
        web.post("/by/metadata", by_metadata),
        web.get("/by/jwt", by_jwt),
        *(web.get(f"/by/{source}", ok) for source in answers.PLAIN),
        web.get("/orgs/{org}/items", items),
        web.get("/orgs/{org}/items/", items),
        web.get("/organisations/{org}/items", items),
        web.post("/chat/completions", chat),
        web.get("/lookup/{name}", lookup),
        web.get("/fail", fail),
        web.get("/healthz", ok),
    ]
)
mounted.add_routes([web.get("/items", ok)])
app.add_subapp("/mounted", mounted)
try:
    asyncio.run(serve())
finally:
    provider.shutdown()
