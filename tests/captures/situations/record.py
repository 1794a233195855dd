"""Records what real servers send where it is no plain request: gRPC, GraphQL, WebSockets, streams, proxies.

    python tests/captures/situations/record.py            all of them
    python tests/captures/situations/record.py grpc       only that one

Each program starts its server, calls it, and ends; the spans that it exports are one file beside it.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parent / ".venv" / "situations"
sys.path.insert(0, str(HERE.parent))

from sink import Sink  # noqa: E402

PROGRAMS = ("grpc_calls", "graphql_operations", "web_situations", "behind_a_proxy")


def interpreter() -> str:
    """A Python with what requirements.txt names."""
    pins = HERE / "requirements.txt"
    stamp = FOLDER / "installed"
    python = str(FOLDER / "bin/python")
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        venv.create(FOLDER, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", str(pins)], check=True)
        stamp.write_text(pins.read_text())
    return python


def record(python: str, program: str) -> None:
    """Run a program, and write what it exports."""
    with Sink() as sink:
        variables = {
            "OTEL_SERVICE_NAME": "shop",
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_SPAN_EVENT_COUNT_LIMIT": "0",  # stack traces name places of this machine
            "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "x-account-id,x-request-id",
        }
        subprocess.run([python, str(HERE / f"{program}.py")], env=os.environ | variables, check=True)
        (HERE / f"{program}.pb").write_bytes(b"".join(sink.bodies))
        print(f"{program}.pb: {sum(map(len, sink.bodies))} bytes")


if __name__ == "__main__":
    for name in PROGRAMS:
        if not sys.argv[1:] or name.startswith(tuple(sys.argv[1:])):
            record(interpreter(), name)
