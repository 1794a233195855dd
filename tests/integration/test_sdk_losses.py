"""What the SDK had to give up is told to the service, with the next requests that arrive."""

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from sdk_collector import Collector, Reply, collector

from otel_usageflow.policy.arriving import SDK_LOST, SDK_PROCESS
from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.processors.usage_policy.arrival_watch import ArrivalWatch
from otel_usageflow.sdk import BillingSpanProcessor, Limits
from otel_usageflow.sdk.encoding import LOST, PROCESS

QUICK = Limits(queue=3, batch=1, delay=0.001, first_wait=0.01, longest_wait=0.02, exit=2.0)


class App:
    """An app with a queue of three requests."""

    def __init__(self, state: Collector) -> None:
        self.processor = BillingSpanProcessor(state.url, limits=QUICK)
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(self.processor)

    def serve(self, number: int) -> None:
        for _ in range(number):
            with self._provider.get_tracer("app").start_as_current_span("GET", kind=SpanKind.SERVER):
                pass

    def flush(self) -> None:
        assert self.processor.force_flush(20_000)

    def __enter__(self) -> "App":
        return self

    def __exit__(self, *_: object) -> None:
        self._provider.shutdown()


def said(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """What a request says of losses."""
    pairs = request.resource_spans[0].resource.attributes
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs if "sdk." in pair.key and
            pair.key.startswith("otel_usageflow.")}  # fmt: skip


def service(state: Collector) -> ArrivalWatch:
    """What a service makes of what was sent so far."""
    watch, engine = ArrivalWatch(), PolicyEngine([])
    for request in state.requests:
        watch.take(engine.evaluate(request.SerializeToString(), 0).arrivals)
    return watch


def test_the_names_are_those_that_the_service_reads() -> None:
    """The SDK imports nothing of the service, so the two are written twice."""
    assert (PROCESS, LOST) == (SDK_PROCESS, SDK_LOST)


def test_nothing_lost_is_nothing_said() -> None:
    """An app that loses nothing sends nothing more than before."""
    with collector() as state, App(state) as app:
        app.serve(2)
        app.flush()
        assert [said(request) for request in state.requests] == [{}, {}]
        assert service(state).lost == 0


def test_a_full_queue_is_told_when_the_service_is_back() -> None:
    """The running total of what was dropped comes with the next requests, and the service counts it once."""
    with collector() as state, App(state) as app:
        state.always = Reply(503)
        app.serve(10)
        dropped = app.processor.stats().dropped
        assert dropped >= 6
        state.always = Reply()
        app.flush()
        app.serve(2)
        app.flush()
        told = [said(request) for request in state.requests]
        assert told[-1] == {PROCESS: told[-1][PROCESS], LOST: dropped}
        assert len(told[-1][PROCESS]) == 16
        watch = service(state)
        assert watch.lost == dropped
        (finding,) = watch.tell(adjusted=False)
        assert f"had to give up {dropped} requests" in finding.text


def test_refused_requests_are_lost_too() -> None:
    """What a service, or whatever stands at its address, refuses for good is billed to nobody."""
    with collector() as state, App(state) as app:
        state.script = [Reply(400), Reply(rejected=1)]
        for _ in range(3):
            app.serve(1)
            app.flush()
        assert [said(request).get(LOST) for request in state.requests] == [1, 2]


def test_two_processes_are_told_apart() -> None:
    """Each has a name of its own, so their totals are added."""
    with collector() as state:
        for _ in range(2):
            with App(state) as app:
                state.script = [Reply(400)]
                for _ in range(2):
                    app.serve(1)
                    app.flush()
        assert service(state).lost == 2
