"""Starts the servers, sends them the traffic, and keeps what their exporters send."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from client import send_all
from environments import ENVIRONMENTS
from sink import Sink
from stacks import Capture

AT_A_TIME = 2
"""Servers that run beside each other; each has its own port, its own sink and its own process."""


def spans_of(capture: Capture) -> bytes:
    """What the server's exporter sends under the traffic: concatenated export requests, or one JSON request a line.

    Raises:
        WrongAnswer: the server answers otherwise than the traffic says.
        RuntimeError: it did not start, or its exporter sent nothing.
    """
    environment = ENVIRONMENTS[capture.environment]
    with Sink() as sink:
        server = subprocess.Popen(
            environment.command(capture.command),
            cwd=environment.start_in(),
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
            try:
                server.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.communicate()
                raise
        if not sink.bodies:
            raise RuntimeError(f"{capture.name} sent no spans")
        return b"".join(sink.bodies)


def run(captures: Iterable[Capture]) -> Mapping[str, bytes | Exception]:
    """What each of them sends, or what went wrong, by the capture's name; several servers run at a time."""

    def attempt(capture: Capture) -> bytes | Exception:
        try:
            return spans_of(capture)
        except Exception as error:  # noqa: BLE001  # one that fails is one cell of the table
            return error

    chosen = list(captures)
    for name in {capture.environment for capture in chosen}:
        ENVIRONMENTS[name].start_in()  # files are copied by one thread, before the servers read them
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return dict(zip((capture.name for capture in chosen), pool.map(attempt, chosen), strict=True))
