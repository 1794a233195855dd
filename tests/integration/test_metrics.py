"""The service's own metrics over real HTTP: from before the start to after the drain, whatever components do."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from recording_components import Part, PartExporter, Story, config, until
from structlog.testing import capture_logs

from otel_usageflow import __version__
from otel_usageflow.component import Measurement
from otel_usageflow.config.model import Config, TelemetryConfig
from otel_usageflow.errors import CannotListen, InvalidData, Unavailable
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.usage import UsageBatch
from otel_usageflow.service.metrics import Metrics
from otel_usageflow.service.run import serve
from otel_usageflow.service.service import Service

ONE = {"traces": (["in"], "rules", ["out"])}
Samples = Mapping[tuple[str, ...], float]


def with_metrics(of: Config, *ports: int) -> Config:
    """The same configuration with readers on these ports."""
    readers = [{"pull": {"exporter": {"prometheus": {"port": port}}}} for port in ports]
    telemetry = TelemetryConfig.model_validate({"metrics": {"readers": readers}})
    return replace(of, service=of.service.model_copy(update={"telemetry": telemetry}))


@asynccontextmanager
async def running(of: Config, patience: float = 5.0) -> AsyncIterator[Service]:
    """The service, ready, for the length of a block."""
    service = Service(of)
    service.metrics = Metrics(service.summary, service.health, SteadyClock(), patience=patience)
    stopping = asyncio.Event()
    task = asyncio.create_task(serve(service, stopping))
    await until(lambda: task.done() or (any(kind == "receivers" for kind, _ in service.components)))
    try:
        if task.done():
            await task
        yield service
    finally:
        stopping.set()
        await task


async def get(service: Service, path: str = "/metrics", method: str = "GET") -> tuple[int, str]:
    """Status and body of one request."""
    address = service.metrics_servers[0].address
    async with aiohttp.ClientSession() as session, session.request(method, f"http://{address}{path}") as answer:
        return answer.status, await answer.text()


async def scrape(service: Service) -> Samples:
    """(name without prefix, values of labels by their names) -> value."""
    status, body = await get(service)
    assert status == 200
    return {
        (one.name.removeprefix("otel_usageflow_"), *(one.labels[name] for name in sorted(one.labels))): one.value
        for family in text_string_to_metric_families(body)
        for one in family.samples
    }


class PartMeasured(PartExporter):
    """An exporter that measures itself."""

    async def measure(self) -> Sequence[Measurement]:
        return [Measurement("otel_usageflow_held", "gauge", 7, "Held.", {"exporter": self.context.id})]


class PartBroken(PartExporter):
    """One that cannot."""

    async def measure(self) -> Sequence[Measurement]:
        raise OSError("no disk")


class PartSlow(PartExporter):
    """One that never comes to an end, and counts how often it was asked."""

    asked = 0

    async def measure(self) -> Sequence[Measurement]:
        type(self).asked += 1
        await asyncio.Event().wait()
        return []


async def consume(story: Story, payload: bytes) -> None:
    """Send one request through the pipeline."""
    consumer = story.contexts["in"].consume
    assert consumer is not None
    await consumer(payload)


async def test_nothing_listens_unless_it_is_configured() -> None:
    """Without a reader there is no port."""
    async with running(config(Story(), ONE)) as service:
        assert service.metrics_servers == []


async def test_the_traffic_is_counted() -> None:
    """What came, what is billed, what is not and why: by pipeline, policy and reason; it only grows."""
    story = Story()
    async with running(with_metrics(config(story, ONE), 0)) as service:
        before = await scrape(service)
        for payload in (b"m", b""):
            await consume(story, payload)
        for payload, error in ((b"bad", InvalidData), (b"bug", Unavailable)):
            with pytest.raises(error):
                await consume(story, payload)
        service.summary.take()  # the line in the log takes nothing from here
        after = await scrape(service)
    expected = {
        ("spans_total", "traces"): 10,
        ("requests_total", "traces"): 8,
        ("unmatched_requests_total", "traces"): 2,
        ("malformed_spans_total", "traces"): 1,
        ("billable_records_total", "traces", "chat"): 4,
        ("unbilled_requests_total", "traces", "chat", "status"): 4,
        ("failed_conditions_total", "traces", "chat"): 0,
        ("cut_short_records_total", "traces", "chat"): 0,
        ("redacted_records_total", "traces", "chat"): 0,
        ("other_account_requests_total", "traces", "chat"): 0,
        ("trace_requests_total", "traces", "chat"): 0,
        ("quarantined_records_total", "traces", "chat", "no_user"): 2,
        ("quarantined_records_total", "traces", "chat", "bad_quantity"): 0,
        ("refused_calls_total", "traces", "invalid_data"): 1,
        ("refused_calls_total", "traces", "internal_error"): 1,
        ("refused_calls_total", "traces", "unavailable"): 0,
    }
    ours = {key: value for key, value in after.items() if key[0].endswith("_total") and key[-1] != key[0]}
    assert ours == expected
    assert {key: before[key] for key in expected} == dict.fromkeys(expected, 0)


async def test_an_exporter_that_refuses_is_seen() -> None:
    """A call that any exporter could not take counts as refused, and as nothing else."""

    class Full(PartExporter):
        async def export(self, batch: UsageBatch) -> None:
            raise Unavailable("disk full")

    story = Story()
    async with running(with_metrics(config(story, ONE, out=Full), 0)) as service:
        with pytest.raises(Unavailable):
            await consume(story, b"")
        samples = await scrape(service)
    assert samples["refused_calls_total", "traces", "unavailable"] == 1
    assert samples["spans_total", "traces"] == 0


async def test_components_add_their_own() -> None:
    """Any component may; one that fails costs its own metrics only, and is named, in the log once."""
    pipelines = {"traces": (["in"], "rules", ["good", "broken"])}
    of = with_metrics(config(Story(), pipelines, good=PartMeasured, broken=PartBroken), 0)
    with capture_logs() as logs:
        async with running(of) as service:
            for _ in range(2):
                samples = await scrape(service)
    assert samples["held", "good"] == 7
    assert samples["component_measured", "exporters::good"] == 1
    assert samples["component_measured", "exporters::broken"] == 0
    assert [(line["component"], line["why"]) for line in logs if line["event"] == "metrics_missing"] == [
        ("exporters::broken", "OSError: no disk")
    ]


async def test_a_slow_component_is_not_waited_for() -> None:
    """It costs its own metrics only, and is asked once however many wait; the service stops all the same."""
    pipelines = {"traces": (["in"], "rules", ["good", "slow"])}
    PartSlow.asked = 0
    async with running(
        with_metrics(config(Story(), pipelines, good=PartMeasured, slow=PartSlow), 0), 0.05
    ) as service:
        for samples in await asyncio.gather(*(scrape(service) for _ in range(3))):
            assert samples["held", "good"] == 7
            assert samples["component_measured", "exporters::slow"] == 0
        await scrape(service)
    assert PartSlow.asked == 1


async def test_two_components_cannot_spoil_the_page() -> None:
    """When two give the same sample, one of them is left out and named; the page can still be read."""

    class Same(PartExporter):
        async def measure(self) -> Sequence[Measurement]:
            return [Measurement("otel_usageflow_held", "gauge", 1, "Held.")]

    pipelines = {"traces": (["in"], "rules", ["a", "b"])}
    async with running(with_metrics(config(Story(), pipelines, a=Same, b=Same), 0)) as service:
        samples = await scrape(service)
    assert (samples["component_measured", "exporters::a"], samples["component_measured", "exporters::b"]) == (1, 0)
    assert samples["held",] == 1


async def test_readiness_is_a_metric() -> None:
    """1 when spans can be taken, 0 with who keeps them from it."""
    async with running(with_metrics(config(Story(), ONE), 0)) as service:
        assert (await scrape(service))["ready",] == 1
        service.health.report("extensions::disk", "full")
        samples = await scrape(service)
    assert samples["ready",] == 0
    assert samples["problem", "extensions::disk"] == 1
    assert any(key[0] == "build_info" and __version__ in key for key in samples)


async def test_it_can_be_read_while_the_service_starts_and_stops() -> None:
    """The port opens before the first component starts, and closes after the last has stopped."""
    seen: list[Any] = []

    class First(Part):
        async def on_enter(self) -> None:
            seen.append((await scrape(service))["problem", "service"])

        async def on_leave(self) -> None:
            samples = await scrape(service)
            seen.append(samples["problem", "service"])
            assert not any(key[0] == "held" for key in samples)  # who has left is not asked

    story = Story()
    service = Service(with_metrics(config(story, ONE, disk=First, out=PartMeasured), 0))
    stopping = asyncio.Event()
    task = asyncio.create_task(serve(service, stopping))
    await until(lambda: "+in" in story.events)
    stopping.set()
    await task
    assert story.events[0] == "+disk"
    assert seen == [1, 1]
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(service)


async def test_a_port_that_is_taken() -> None:
    """It stops the start, with the place in the configuration, before anything else has started."""
    story = Story()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        of = with_metrics(config(story, ONE), 0, port)
        place = "service::telemetry::metrics::readers::1::pull::exporter::prometheus"
        with pytest.raises(
            CannotListen, match=f"^{place}: cannot listen on 127.0.0.1:{port}: Address already in use"
        ):
            await serve(Service(of), asyncio.Event())
    assert story.events == []


async def test_other_paths_and_methods() -> None:
    """404 says where the metrics are; only GET and HEAD are answered."""
    async with running(with_metrics(config(Story(), ONE), 0)) as service:
        assert await get(service, "/") == (404, "not found; the metrics are at /metrics\n")
        assert (await get(service, method="POST"))[0] == 405
        assert await get(service, method="HEAD") == (200, "")
