"""Serves an ASGI application with uvicorn on a free port, which it prints, until SIGTERM."""

import signal
import socket
import sys
from typing import Any

import uvicorn
from opentelemetry.sdk.trace import TracerProvider


def serve(app: Any, provider: TracerProvider) -> None:
    """Serve, then send the spans that are left."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises the signal again when it has stopped
    try:
        uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listener])
    finally:
        provider.shutdown()
