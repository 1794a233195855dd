"""The processor over sampled spans while it runs: its log, its numbers, and a change of `sampling`."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from span_builder import NOW, http, payload, policy, span
from structlog.testing import capture_logs

from otel_usageflow.component import Context
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.processors.usage_policy.config import UsagePolicyConfig
from otel_usageflow.processors.usage_policy.processor import UsagePolicyProcessor
from otel_usageflow.service.health import ServiceHealth

HEALTH = ServiceHealth()


def config(**more: Any) -> UsagePolicyConfig:
    return UsagePolicyConfig.model_validate({"policies": [policy().model_dump(exclude_unset=True)], **more})


def processor(**more: Any) -> UsagePolicyProcessor:
    context = Context("usage_policy", HEALTH, {}, clock=SteadyClock())
    return UsagePolicyProcessor(config(**more), context, summary_interval=0.01)


def sampled(count: int, state: str = "") -> bytes:
    """Requests as a consistent sampler of one in four keeps them."""
    chance = random.Random(count)
    spans = [span(http() | {"http.request.header.x-account-id": ["acme"]}) for _ in range(count)]
    for one in spans:
        one.trace_id = chance.randbytes(9) + bytes([chance.randrange(0xC0, 0x100)]) + chance.randbytes(6)
        one.trace_state = state
    return payload(*spans)


async def numbers(of: UsagePolicyProcessor) -> Mapping[tuple[str, ...], float]:
    return {(one.name.removeprefix("otel_usageflow_"), *one.labels.values()): one.value for one in await of.measure()}


async def test_it_is_said_while_the_service_runs() -> None:
    """Within an interval there is one line about the service, and no more of the same; nothing becomes unready."""
    with capture_logs() as lines:
        async with processor() as running, asyncio.timeout(20):
            running.process(sampled(100), NOW)
            while True:
                if lines:
                    break
                await asyncio.sleep(0.005)
            running.process(sampled(50), NOW)
            share = (await numbers(running))["sampled_share", "usage_policy", "shop"]
    assert [(line["event"], line["log_level"], line["arriving"]) for line in lines] == [
        ("requests_missing", "warning", "25 %")
    ]
    assert 0.2 < share <= 0.25
    assert not HEALTH.problems()


async def test_nothing_is_said_of_a_service_that_sends_all() -> None:
    """No line, and no share on the page of metrics, but all counters from 0 on."""
    with capture_logs() as lines:
        async with processor() as running:
            running.process(payload(*(span(http()) for _ in range(50))), NOW)
            seen = await numbers(running)
    assert lines == []
    assert {name: value for name, value in seen.items() if "sampled" in name[0] or "lost" in name[0]} == {
        ("sampled_requests_total", "usage_policy"): 0,
        ("sdk_lost_requests_total", "usage_policy"): 0,
    }
    assert seen["unusable_weights_total", "usage_policy", "malformed"] == 0


async def test_sampling_can_be_changed_while_the_service_runs() -> None:
    """From one moment on requests count by weight, and a batch that was begun before is judged as it began."""
    async with processor() as running:
        before = running.judge()
        change = await running.prepare(config(sampling="adjust"))
        assert [record.quantity for record in running.process(sampled(2, "ot=th:c"), NOW).records] == [1, 1]
        change.apply()
        assert [record.quantity for record in running.process(sampled(2, "ot=th:c"), NOW).records] == [4, 4]
        assert [record.quantity for record in before(sampled(2, "ot=th:c"), NOW).records] == [1, 1]
        assert [terms.quantity for terms in running.terms] == [None]
        assert (await numbers(running))["sampled_requests_total", "usage_policy"] == 6
