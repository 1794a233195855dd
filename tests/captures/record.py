"""Records the captures: starts each server, sends it the traffic, keeps what its exporter sends.

    python tests/captures/record.py             all of them
    python tests/captures/record.py flask-old   only those whose names start so

Needs Python 3.11, Node 20 with npm for the Node stacks, and package registries. Also writes expected.json.
"""

import os
import subprocess
import sys

from client import send_all
from environments import interpreter, prepare
from oracle import expected_text
from sink import Sink
from stacks import CAPTURES, HERE, Capture


def record(capture: Capture) -> None:
    """Write one capture.

    Raises:
        WrongAnswer: the server answers otherwise than the traffic says.
        RuntimeError: it did not start, or its exporter sent nothing.
    """
    folder = prepare(capture.environment)
    with Sink() as sink:
        server = subprocess.Popen(
            [interpreter(capture.environment), *capture.command],
            cwd=folder,
            env={"PATH": os.environ["PATH"]} | capture.variables(sink.endpoint),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            if not port:
                raise RuntimeError(f"{capture.name} did not start")
            send_all("127.0.0.1", int(port))
        finally:
            server.terminate()
            server.wait(30)
        if not sink.bodies:
            raise RuntimeError(f"{capture.name} sent no spans")
        capture.file.write_bytes(b"".join(sink.bodies))
        print(f"{capture.file.name}: {len(sink.bodies)} requests, {capture.file.stat().st_size} bytes")


def main(prefixes: list[str]) -> None:
    """Record the captures that are asked for, and write down what they must cost."""
    for capture in CAPTURES:
        if not prefixes or capture.name.startswith(tuple(prefixes)):
            record(capture)
    text = expected_text(capture.name for capture in CAPTURES)
    (HERE / "expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
