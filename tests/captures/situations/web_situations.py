"""What a web application sees besides plain requests: preflights, HEAD, redirects, files, streams, WebSockets."""

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fastapi import FastAPI, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import RedirectResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from serving import ask, served
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

app = FastAPI()
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"])
folder = tempfile.TemporaryDirectory()
(Path(folder.name) / "logo.txt").write_text("a logo")
app.mount("/static", StaticFiles(directory=folder.name))
gone = threading.Event()


@app.get("/healthz")
def health() -> str:
    return "ok"


@app.api_route("/orders", methods=["GET", "HEAD"])
def orders() -> list[str]:
    return ["an order"]


@app.get("/old-orders")
def moved() -> RedirectResponse:
    return RedirectResponse("/orders")


@app.get("/events")
def events() -> StreamingResponse:
    return StreamingResponse((f"data: {number}\n\n" for number in range(3)), media_type="text/event-stream")


@app.get("/endless")
def endless() -> StreamingResponse:
    def chunks() -> Iterator[str]:
        while not gone.wait(0.01):
            yield "data: on and on\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")


@app.get("/broken")
def broken() -> None:
    raise RuntimeError("a bug")


@app.websocket("/chat")
async def chat(socket: WebSocket) -> None:
    if socket.query_params.get("refused"):
        await socket.close()
        return
    await socket.accept()
    for _ in range(3):
        await socket.send_text(await socket.receive_text())
    await socket.close()


def leave_early(port: int) -> None:
    """Read the beginning of a stream, and go."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\nx-account-id: acme\r\n\r\n")
        connection.recv(100)


with served(app) as port:
    ask(port, "GET", "/orders")
    ask(port, "HEAD", "/orders")
    ask(port, "OPTIONS", "/orders", origin="https://shop.example", access_control_request_method="GET")
    ask(port, "GET", "/healthz")
    ask(port, "GET", "/static/logo.txt")
    ask(port, "GET", "/old-orders")
    ask(port, "GET", "/orders/")
    ask(port, "GET", "/events")
    ask(port, "GET", "/broken")
    ask(port, "GET", "/nowhere")
    leave_early(port)
    with connect(f"ws://127.0.0.1:{port}/chat", additional_headers={"x-account-id": "acme"}) as conversation:
        for text in ("one", "two", "three"):
            conversation.send(text)
            conversation.recv()
    with suppress(InvalidStatus):
        connect(f"ws://127.0.0.1:{port}/chat?refused=1", additional_headers={"x-account-id": "acme"})
    gone.set()
