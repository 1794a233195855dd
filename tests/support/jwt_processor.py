"""A `usage_policy` processor that verifies tokens, with its keys kept fresh as in the service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from span_builder import http, payload, span
from tokens import bearer

from otel_usageflow.component import Context
from otel_usageflow.errors import Unavailable
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.processors.usage_policy.config import UsagePolicyConfig
from otel_usageflow.processors.usage_policy.key_upkeep import Timing
from otel_usageflow.processors.usage_policy.processor import UsagePolicyProcessor
from otel_usageflow.service.health import ServiceHealth

CLOCK = SteadyClock()
QUICK = Timing(interval=60.0, gap=0.05, recheck=60.0, tries=2, pause=0.01, failing=0.05)
"""As in earnest, but without the waiting between two refreshes."""


def config(verify: Any, **more: Any) -> UsagePolicyConfig:
    policies = [
        {
            "name": name,
            "endpoint": f"POST /{name}",
            "user": user,
            "customer": {"metadata_field": "account_id"},
            "event_name": "api_request",
        }
        for name, user in (
            ("chat", {"jwt": {"claim": "sub", "verify": verify, **more}}),
            ("plain", {"header": "x-account-id"}),
        )
    ]
    return UsagePolicyConfig.model_validate({"policies": policies})


@asynccontextmanager
async def running(
    of: UsagePolicyConfig, health: ServiceHealth | None = None, timing: Timing = QUICK, file: Timing | None = None
) -> AsyncIterator[UsagePolicyProcessor]:
    context = Context("usage_policy", health or ServiceHealth(), {}, clock=CLOCK)
    async with UsagePolicyProcessor(of, context, remote=timing, file=file or timing) as processor:
        yield processor


def request(token: str) -> bytes:
    """One export request with one request of now."""
    end = CLOCK.ns()
    return payload(span(http() | bearer(token), start=end - 1000, end=end))


def user(processor: UsagePolicyProcessor, data: bytes) -> str | None:
    (record,) = processor.process(data, CLOCK.ns()).records
    return record.user


async def answered(processor: UsagePolicyProcessor, data: bytes) -> tuple[str | None, int]:
    """What a client that sends again until it is taken hears in the end, and how often it was refused."""
    async with asyncio.timeout(20):
        for refusals in range(10_000):
            try:
                return user(processor, data), refusals
            except Unavailable as error:
                retry_after = error.retry_after
            assert 0 < retry_after <= 5
            await asyncio.sleep(0.002)
    raise AssertionError


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  (what is waited for signals nobody)
            await asyncio.sleep(0.002)


async def measured(processor: UsagePolicyProcessor, name: str) -> dict[tuple[str, ...], float]:
    """Labels without the processor's -> value, where it is not 0."""
    return {
        tuple(value for label, value in one.labels.items() if label != "processor"): one.value
        for one in await processor.measure()
        if one.name == name and one.value
    }
