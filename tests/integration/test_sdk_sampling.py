"""Every request is billed, and everybody else's sampling stays as it is."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from sdk_apps import HEADERS, call_asgi
from sdk_collector import Collector, collector

import otel_usageflow.sdk as usageflow
from otel_usageflow.sdk import BillingSampler, BillingSpanProcessor


@pytest.fixture
def receiver() -> Iterator[Collector]:
    """A receiver."""
    with collector() as running:
        yield running
        usageflow.shutdown()


def sampled(sampler: Sampler) -> tuple[TracerProvider, InMemorySpanExporter]:
    """A provider of an app, with its own exporters behind a batch and a simple processor."""
    provider, exporter = TracerProvider(sampler=sampler, shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def test_one_percent_sampled_is_all_billed(receiver: Collector) -> None:
    """A thousand requests under a sampler of 1 %: billing has all, the tracing backend what it had before."""
    ratio = TraceIdRatioBased(0.01)
    provider, exporter = sampled(ParentBased(ratio))
    app = FastAPI(telemetry={"tracing": False})
    app.get("/items/{item}")(lambda item: {"item": item})
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    usageflow.install(app, endpoint=receiver.url, user=usageflow.header("x-account-id"), tracer_provider=provider)
    for number in range(1000):
        assert call_asgi(app, f"/items/{number}") == 200
    assert usageflow.flush(20)
    provider.force_flush()
    billed = {(span.trace_id, span.span_id) for span in receiver.spans()}
    assert len(billed) == len(receiver.spans()) == 1000
    assert sorted(int(found["http.target"].rpartition("/")[2]) for found in receiver.found()) == list(range(1000))
    assert {found["enduser.id"] for found in receiver.found()} == {"acme"}
    kept = {span.context.trace_id for span in exporter.get_finished_spans() if span.context is not None}
    would = {int.from_bytes(trace_id, "big") for trace_id, _ in billed}
    assert kept == {number for number in would if number & ratio.TRACE_ID_LIMIT < ratio.bound}
    assert len(kept) < 100
    stats = usageflow.stats()
    assert (stats.taken, stats.sent, stats.made, stats.dropped) == (1000, 1000, 0, 0)
    provider.shutdown()


@pytest.mark.parametrize("parent_sampled", [None, False, True])
@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ALWAYS_ON, ParentBased(ALWAYS_OFF), ParentBased(ALWAYS_ON)])
def test_children_and_what_is_propagated_are_as_before(
    receiver: Collector, sampler: Sampler, parent_sampled: bool | None
) -> None:
    """With and without billing: the same spans are exported, and the same flags go downstream."""
    remote = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(int(bool(parent_sampled))))
    context = None if parent_sampled is None else set_span_in_context(NonRecordingSpan(remote))

    def serve(provider: TracerProvider) -> tuple[str, str]:
        tracer = provider.get_tracer("app")
        outgoing: list[str] = []
        with tracer.start_as_current_span("GET /a", context=context, kind=SpanKind.SERVER):
            for _ in range(2):
                with tracer.start_as_current_span("child", kind=SpanKind.CLIENT):
                    carrier: dict[str, str] = {}
                    inject(carrier)
                    outgoing.append(carrier["traceparent"][-2:])
            with tracer.start_as_current_span("inner", kind=SpanKind.SERVER):
                pass
        return outgoing[0], outgoing[1]

    plain, plain_exporter = sampled(sampler)
    before = serve(plain)
    billed, exporter = sampled(BillingSampler(sampler))
    processor = BillingSpanProcessor(receiver.url)
    billed.add_span_processor(processor)
    after = serve(billed)
    assert before == after
    plain.force_flush()
    billed.force_flush()
    names = [sorted(span.name for span in each.get_finished_spans()) for each in (plain_exporter, exporter)]
    assert names[0] == names[1]
    (span,) = receiver.spans()
    assert span.flags == (0x300 if parent_sampled is not None else 0x100)
    assert span.parent_span_id == (bytes(7) + b"\x08" if parent_sampled is not None else b"")
    plain.shutdown()
    billed.shutdown()


def test_attributes_given_at_the_start_are_there(receiver: Collector) -> None:
    """A sampler that drops answers without attributes; the recorded span has them all the same."""
    provider, _ = sampled(BillingSampler(ALWAYS_OFF))
    provider.add_span_processor(BillingSpanProcessor(receiver.url))
    with provider.get_tracer("app").start_as_current_span(
        "GET /a", kind=SpanKind.SERVER, attributes={"url.path": "/a"}
    ) as span:
        span.set_attribute("app.tokens", 3)
        assert not span.get_span_context().trace_flags.sampled
    provider.force_flush()
    assert receiver.found() == [{"url.path": "/a", "app.tokens": 3}]
    provider.shutdown()


def test_what_says_that_the_tracing_is_sampled_stays_here(receiver: Collector) -> None:
    """A billed span carries no `ot=th:`: the service would take it for one of many."""
    from opentelemetry.trace import TraceState

    provider, _ = sampled(BillingSampler(ALWAYS_ON))
    provider.add_span_processor(BillingSpanProcessor(receiver.url))
    state = TraceState([("ot", "th:fd70a4")])
    remote = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    context = set_span_in_context(NonRecordingSpan(remote))
    with provider.get_tracer("app").start_as_current_span("GET", context=context, kind=SpanKind.SERVER) as span:
        assert span.get_span_context().trace_state == state
    provider.force_flush()
    assert [span.trace_state for span in receiver.spans()] == [""]
    provider.shutdown()


def test_a_provider_that_drops_behind_our_back_costs_nothing(receiver: Collector) -> None:
    """Where the sampler is not ours (another provider, or SDK), the middleware makes the span that was dropped."""
    provider, exporter = sampled(ALWAYS_OFF)
    app = FastAPI(telemetry={"tracing": False})
    app.get("/a")(lambda: {"served": True})
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    usageflow.install(app, endpoint=receiver.url, user=usageflow.header("x-account-id"))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    call_asgi(app, "/a", headers={**HEADERS, "traceparent": parent})
    call_asgi(app, "/a")
    assert usageflow.flush(20)
    assert exporter.get_finished_spans() == ()
    first, second = receiver.spans()
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == tuple(parent.split("-")[1:3])
    assert (first.flags, second.flags, second.parent_span_id) == (0x300, 0x100, b"")
    assert [found["enduser.id"] for found in receiver.found()] == ["acme", "acme"]
    assert usageflow.stats().made == 2
    assert not trace.get_current_span().get_span_context().is_valid
    provider.shutdown()
