"""A real SDK that samples, and the installed service: it says that requests are missing, or counts them by weight."""

import asyncio
import math
import signal
import urllib.request
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace._sampling_experimental import (
    composable_parent_threshold,
    composable_traceid_ratio_based,
    composite_sampler,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind
from processes import double, service
from prometheus_client.parser import text_string_to_metric_families
from service_process import CONFIG, environment, running

from otel_usageflow.policy.weighing import weighed

METRICS = "service::telemetry::metrics::readers=[{pull: {exporter: {prometheus: {port: 0}}}}]"


def serve(endpoint: str, sampler: Sampler, requests: int, path: str) -> int:
    """Let an app serve so many requests, and say how many its SDK has sampled."""
    provider = TracerProvider(sampler=sampler, resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces"), max_queue_size=10_000))
    tracer = provider.get_tracer("app")
    sampled = 0
    for _ in range(requests):
        with tracer.start_as_current_span("POST", kind=SpanKind.SERVER) as span:
            sampled += span.is_recording()
            span.set_attributes(
                {
                    "http.request.method": "POST",
                    "url.path": path,
                    "http.response.status_code": 200,
                    "http.request.header.x-account-id": ["acme"],
                    "app.tokens": 1,
                }
            )
    provider.shutdown()
    return sampled


async def scrape(address: str) -> dict[Sequence[str], float]:
    """Name and labels -> value."""

    def get() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    families = text_string_to_metric_families(await asyncio.to_thread(get))
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


async def test_a_ratio_sampler_is_noticed(tmp_path: Path) -> None:
    """The classic sampler writes nothing into its spans; metric and log name service, share and remedy."""
    config = tmp_path / "usageflow.yaml"
    config.write_text(CONFIG)
    async with running(["--config", str(config), "--set", METRICS], environment(tmp_path)) as process:
        metrics = (await process.line("started", component="service::telemetry::metrics"))["listening"]
        ports = await process.ports()
        endpoint = f"http://127.0.0.1:{ports['http']}"
        sampler = ParentBased(TraceIdRatioBased(0.1))
        sampled = await asyncio.to_thread(serve, endpoint, sampler, 1000, "/v1/chat/completions")
        seen = await scrape(metrics)
        assert seen["otel_usageflow_requests_total", "traces"] == sampled
        assert seen["otel_usageflow_sampled_requests_total", "usage_policy"] == 0  # it says nothing of it itself
        assert 0.08 < seen["otel_usageflow_sampled_share", "usage_policy", "shop"] <= 0.1
        process.process.send_signal(signal.SIGTERM)
        line = await process.line("requests_missing", service="shop", evidence="trace_ids")
        assert line["level"] == "warning"
        assert "Python" in line["finding"]
        assert "otel_usageflow.sdk" in line["remedy"]
        assert await process.end() == 0


async def test_an_app_that_samples_nothing_away_is_left_alone(tmp_path: Path) -> None:
    """Random trace ids of requests that all arrive give no reason for a warning."""
    config = tmp_path / "usageflow.yaml"
    config.write_text(CONFIG)
    async with running(["--config", str(config), "--set", METRICS], environment(tmp_path)) as process:
        metrics = (await process.line("started", component="service::telemetry::metrics"))["listening"]
        ports = await process.ports()
        sampler = ParentBased(TraceIdRatioBased(1.0))
        await asyncio.to_thread(serve, f"http://127.0.0.1:{ports['http']}", sampler, 1500, "/v1/chat/completions")
        assert not [key for key in await scrape(metrics) if key[0] == "otel_usageflow_sampled_share"]
        process.process.send_signal(signal.SIGTERM)
        await process.line("usage_summary")
        assert await process.end() == 0
        assert not [line for line in process.lines if line["event"] == "requests_missing"]


async def test_what_a_consistent_sampler_keeps_is_billed_by_weight(tmp_path: Path) -> None:
    """Under adjust the bill is exactly the sum of the weights, and about what all requests would have cost."""
    ratio, requests = 0.3, 2000
    sampler = composite_sampler(composable_parent_threshold(composable_traceid_ratio_based(ratio)))
    one = weighed(1, Fraction(1 << 56, round(ratio * (1 << 56))))
    assert one == Decimal("3.333333333")
    async with (
        double("--meter", "api_request", "--customer", "account_id=acme") as stripe,
        service(tmp_path, stripe) as billing,
    ):
        await billing.stop()
        await billing.start("--set", "processors::usage_policy::sampling=adjust")
        sampled = await asyncio.to_thread(serve, f"http://127.0.0.1:{billing.http}", sampler, requests, "/v1/chat")
        expected = Decimal(sampled) * one
        # Six times the standard error of such an estimate: one run in 10^9 is off by more.
        assert abs(expected - requests) < 6 * requests * math.sqrt((1 - ratio) / (requests * ratio))
        async with asyncio.timeout(60):
            while True:
                if Decimal((await stripe.totals()).get("acme", "0")) == expected:
                    break
                await asyncio.sleep(0.1)
        await billing.stop()
        assert Decimal((await stripe.totals())["acme"]) == expected
        assert "requests_weighed" in billing.log.read_text()
