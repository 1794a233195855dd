"""Starlette with another Starlette app mounted below /mounted; both are instrumented."""

import answers
import asgi
import telemetry
from opentelemetry.instrumentation.starlette import StarletteInstrumentor
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route


async def by_header(request: Request) -> Response:
    return Response(status_code=204 if request.method == "OPTIONS" else 200)


async def by_jwt(request: Request) -> Response:
    return Response(status_code=answers.jwt(request.headers.get("authorization")))


async def items(request: Request) -> Response:
    return Response(status_code=answers.items(request.path_params["org"]))


async def by_body(request: Request) -> Response:
    body = await request.body()
    telemetry.capture_body(body)
    return Response(status_code=answers.create(body))


async def by_metadata(request: Request) -> Response:
    return Response(status_code=answers.session(request.headers.get("x-session")))


async def chat(request: Request) -> Response:
    return Response(status_code=answers.complete(await request.body()))


async def lookup(request: Request) -> Response:
    return Response(status_code=answers.lookup(request.path_params["name"]))


async def fail(_request: Request) -> Response:
    return Response(status_code=500)


async def ok(_request: Request) -> Response:
    return Response()


provider = telemetry.start()
mounted = Starlette(routes=[Route("/items", ok)])
app = Starlette(
    routes=[
        Route("/by/header", by_header, methods=["GET", "HEAD", "OPTIONS"]),
        Route("/by/header/", by_header),
        Route("/by/body", by_body, methods=["POST"]),
        Route("/by/metadata", by_metadata, methods=["POST"]),
        Route("/by/jwt", by_jwt),
        *(Route(f"/by/{source}", ok) for source in answers.PLAIN),
        Route("/orgs/{org}/items", items),
        Route("/orgs/{org}/items/", items),
        Route("/orgs/{org:path}/items", items),  # ASGI decodes the path before it is routed
        Route("/organisations/{org}/items", items),
        Route("/chat/completions", chat, methods=["POST"]),
        Route("/lookup/{name}", lookup),
        Route("/fail", fail),
        Mount("/mounted", mounted),
        Route("/healthz", ok),
    ]
)
StarletteInstrumentor.instrument_app(mounted)
StarletteInstrumentor.instrument_app(app)
asgi.serve(app, provider)
