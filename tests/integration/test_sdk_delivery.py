"""The SDK's queue: bounded, patient, counted, and never in the way; through faults, a fork and the exit."""

import asyncio
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from otlp_harness import FakeHealth, Sink, otlp
from processes import free_port
from sdk_collector import Collector, Reply, collector, until

from otel_usageflow.errors import Unavailable
from otel_usageflow.sdk import BillingSpanProcessor, Limits

QUICK = Limits(delay=0.01, first_wait=0.01, longest_wait=0.05, timeout=5.0, exit=2.0)


@contextmanager
def app(endpoint: str, limits: Limits = QUICK, **settings: Any) -> Iterator[tuple[BillingSpanProcessor, Any]]:
    """A processor, and a function that serves so many requests."""
    processor = BillingSpanProcessor(endpoint, limits=limits, **settings)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("app")

    def serve(number: int, **attributes: Any) -> None:
        for one in range(number):
            with tracer.start_as_current_span("GET", kind=SpanKind.SERVER, attributes={"n": one, **attributes}):
                pass

    try:
        yield processor, serve
    finally:
        provider.shutdown()


def test_a_receiver_that_dies_and_comes_back_loses_nothing() -> None:
    """Requests before, during and after the outage arrive; the service sees each at least once."""
    state = Collector(port=free_port())
    with app(f"http://127.0.0.1:{state.port}") as (processor, serve):
        with collector(state.port, state):
            serve(5)
            assert processor.force_flush(20_000)
        serve(5)
        until(lambda: processor.stats().retries >= 3)
        assert processor.stats().waiting == 5
        with collector(state.port, state):
            serve(5)
            assert processor.force_flush(20_000)
        stats = processor.stats()
        assert (stats.taken, stats.sent, stats.waiting, stats.dropped) == (15, 15, 0, 0)
        assert stats.problem is not None
    assert len({span.span_id for span in state.spans()}) == 15


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_again_is_asked_again(status: int) -> None:
    """A retryable answer is retried with the same spans until it is another."""
    with collector() as state, app(state.url) as (processor, serve):
        state.script = [Reply(status)] * 3
        serve(2)
        assert processor.force_flush(20_000)
        assert (processor.stats().retries, processor.stats().sent, state.calls) == (3, 2, 4)


def test_the_service_decides_when_again() -> None:
    """`Retry-After` holds the next attempt back."""
    limits = Limits(delay=0.01, first_wait=0.001, longest_wait=5.0)
    with collector() as state, app(state.url, limits) as (processor, serve):
        state.script = [Reply(503, headers={"retry-after": "1"})]
        start = time.monotonic()
        serve(1)
        assert processor.force_flush(20_000)
        assert time.monotonic() - start >= 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 302])
def test_no_is_no(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """What must not be retried is not: it is counted as rejected, and said once."""
    with collector() as state, app(state.url) as (processor, serve):
        state.always = Reply(status)
        for _ in range(2):
            serve(3)
            assert processor.force_flush(20_000)
        stats = processor.stats()
        assert (stats.rejected, stats.sent, stats.retries, stats.waiting, state.calls) == (6, 0, 0, 0, 2)
        assert str(status) in (stats.problem or "")
    warnings = [record.getMessage() for record in caplog.records if record.name == "otel_usageflow.sdk"]
    assert len(warnings) == 1
    assert str(status) in warnings[0]


def test_what_the_service_rejects_in_part_is_counted() -> None:
    """`partial_success` splits a batch into sent and rejected."""
    with collector() as state, app(state.url, Limits(batch=5, delay=5.0)) as (processor, serve):
        state.script = [Reply(rejected=2)]
        serve(5)
        assert processor.force_flush(20_000)
        stats = processor.stats()
        assert (stats.sent, stats.rejected, stats.problem) == (3, 2, "not these")


def test_what_is_too_large_is_halved() -> None:
    """413 halves a batch, down to single requests; only one that is too large by itself is rejected."""
    with collector() as state, app(state.url, Limits(batch=8, delay=5.0)) as (processor, serve):
        state.script = [Reply(413), Reply(413), Reply(413), Reply(413)]
        serve(8)
        assert processor.force_flush(20_000)
        assert (processor.stats().sent, processor.stats().rejected) == (7, 1)
        assert len({span.span_id for span in state.spans()}) == 7


def test_a_dead_service_costs_bounded_memory_and_no_time(caplog: pytest.LogCaptureFixture) -> None:
    """The newest are dropped when the queue is full, with one warning, and no request waits for it."""
    limits = Limits(queue=100, first_wait=0.01, delay=0.01)
    with app(f"http://127.0.0.1:{free_port()}", limits) as (processor, serve):
        serve(5_000)
        stats = processor.stats()
        assert (stats.taken, stats.waiting, stats.dropped) == (5_000, 100, 4_900)
    stats = processor.stats()
    assert (stats.waiting, stats.dropped) == (0, 5_000)
    warnings = [record.getMessage() for record in caplog.records if "queue" in record.getMessage()]
    assert len(warnings) == 1


def test_the_queue_is_bounded_in_bytes() -> None:
    """Few large requests fill it as many small ones do."""
    with app(f"http://127.0.0.1:{free_port()}", Limits(queue_bytes=100_000, exit=0.1)) as (processor, serve):
        serve(100, text="x" * 4000)
        assert 10 < processor.stats().waiting < 30


def test_a_slow_service_blocks_nobody() -> None:
    """While an answer is held back, requests are served as fast as ever."""
    release = threading.Event()
    with collector() as state, app(state.url, Limits(batch=10, delay=0.01)) as (processor, serve):
        state.always = Reply(wait=release)
        serve(10)
        until(lambda: state.calls == 1)
        start = time.monotonic()
        serve(1000)
        assert time.monotonic() - start < 2
        assert processor.stats().waiting == 1010
        assert not processor.force_flush(10)
        release.set()
        assert processor.force_flush(20_000)
        assert processor.stats().sent == 1010


def test_headers_are_sent() -> None:
    """What the receiver's authenticator asks for goes along."""
    with collector() as state, app(state.url, headers={"authorization": "Bearer t0ken"}) as (processor, serve):
        serve(1)
        assert processor.force_flush(20_000)
        assert state.headers[0]["authorization"] == "Bearer t0ken"


async def test_the_real_receiver_takes_it() -> None:
    """The service's own receiver: refused as overloaded first, taken then."""
    sink = Sink(script=[Unavailable("full")])
    async with otlp(sink, health=FakeHealth()) as receiver:
        with app(f"http://{receiver.http_address}") as (processor, serve):
            serve(3)
            assert await asyncio.to_thread(processor.force_flush, 20_000)
            assert (processor.stats().sent, processor.stats().retries) == (3, 1)
            await asyncio.to_thread(processor.shutdown)
    assert len(sink.span_ids()) == 3


def run(code: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """A Python program."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=30, check=False, **more
    )


APP = """
import sys, os
import otel_usageflow.sdk as usageflow
from sdk_apps import call_wsgi
def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
app = usageflow.install(app, endpoint=sys.argv[1], user=usageflow.header("x-account-id"),
                        limits=usageflow.Limits(delay=60.0, exit=1.0))
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}


def test_the_exit_sends_what_is_left() -> None:
    """A process that ends sends its queue first."""
    with collector() as state:
        done = run(APP + "for _ in range(700): call_wsgi(app, '/')", state.url, env=ENVIRONMENT)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert len(state.spans()) == 700


def test_the_exit_has_a_deadline() -> None:
    """With a dead service the process ends in time, and says how many requests are lost."""
    start = time.monotonic()
    done = run(APP + "for _ in range(7): call_wsgi(app, '/')", f"http://127.0.0.1:{free_port()}", env=ENVIRONMENT)
    assert done.returncode == 0
    assert time.monotonic() - start < 10
    assert "7 requests are not billed" in done.stderr


def test_a_service_that_never_answers_does_not_hold_up_the_exit() -> None:
    """The deadline also ends an attempt that is on its way."""
    release = threading.Event()
    with collector() as state:
        state.always = Reply(wait=release)
        start = time.monotonic()
        done = run(APP + "call_wsgi(app, '/')", state.url, env=ENVIRONMENT)
        release.set()
        assert done.returncode == 0
        assert time.monotonic() - start < 10
        assert "1 requests are not billed" in done.stderr


FORK = """
call_wsgi(app, '/parent')
children = []
for number in range(3):
    child = os.fork()
    if not child:
        assert usageflow.stats() == usageflow.Stats(), usageflow.stats()
        for _ in range(5):
            call_wsgi(app, f'/child/{number}')
        assert usageflow.stats().waiting == 5
        sys.exit(0)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
call_wsgi(app, '/parent')
"""


@pytest.mark.filterwarnings("ignore:This process")  # Python 3.12 and newer: forking with threads
def test_a_fork_sends_nothing_twice_and_loses_nothing() -> None:
    """Children begin empty and send their own; what waited in the parent is sent by the parent."""
    with collector() as state:
        done = run(APP + FORK, state.url, env=ENVIRONMENT)
        assert (done.returncode, done.stderr) == (0, "")
        paths = sorted(found["url.path"] for found in state.found())
        assert paths == [*(f"/child/{number}" for number in range(3) for _ in range(5)), "/parent", "/parent"]
        assert len({span.span_id for span in state.spans()}) == 17


UVICORN = """
import sys
import uvicorn
from fastapi import FastAPI
import otel_usageflow.sdk as usageflow
app = FastAPI(telemetry={"tracing": False})
app.get("/")(lambda: {})
usageflow.install(app, endpoint=sys.argv[1], limits=usageflow.Limits(delay=60.0))
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_ended_sends_what_is_left(with_signal: signal.Signals) -> None:
    """uvicorn ends by the signal itself, without Python's exit: the queue is sent before."""
    port = free_port()
    with (
        collector() as state,
        subprocess.Popen([sys.executable, "-c", UVICORN, state.url, str(port)], stderr=subprocess.PIPE) as server,
    ):

        def asked() -> bool:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                client.request("GET", "/")
                return client.getresponse().status == 200
            except OSError:
                return False
            finally:
                client.close()

        until(asked)
        assert asked()
        server.send_signal(with_signal)
        server.communicate(timeout=20)
        assert len(state.spans()) == 2


def test_nothing_of_the_service_is_loaded() -> None:
    """Importing the SDK loads neither the service nor its dependencies."""
    done = run(
        "import sys, otel_usageflow.sdk\n"
        "ours = {name for name in sys.modules if name.startswith('otel_usageflow.')}\n"
        "assert all(name.startswith('otel_usageflow.sdk') for name in ours), ours\n"
        "assert not {'aiohttp', 'grpc', 'pydantic', 'stripe', 'structlog', 'yaml', 'sqlite3'} & set(sys.modules)"
    )
    assert (done.returncode, done.stderr) == (0, "")
