"""A proxy and the shop behind it, two services that both report each request, in one trace or in two."""

import http.client
import uuid

from fastapi import FastAPI, Request, Response
from opentelemetry.propagate import inject
from serving import ask, served

shop = FastAPI()


@shop.get("/orders")
def orders() -> list[str]:
    return ["an order"]


def proxy_to(port: int) -> FastAPI:
    """A proxy that gives each request an id; with `?lost` it loses the trace context, as some do."""
    proxy = FastAPI()

    @proxy.get("/orders")
    def forward(request: Request) -> Response:
        headers = {"x-request-id": request.headers.get("x-request-id") or str(uuid.uuid4())}
        headers["x-account-id"] = request.headers["x-account-id"]
        if "lost" not in request.query_params:
            inject(headers)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/orders", headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return Response(content, answer.status)

    return proxy


with served(shop, "shop") as behind, served(proxy_to(behind), "proxy") as before:
    ask(before, "GET", "/orders", x_request_id="request-1")
    ask(before, "GET", "/orders?lost", x_request_id="request-2")
    ask(before, "GET", "/orders", x_request_id="request-3")
    ask(before, "GET", "/orders", x_request_id="request-3")
