"""A change of what is summed over local traces: spans before and after it are kept for both sets of policies."""

import asyncio

import pytest
from span_builder import NOW, engine, policy
from trace_builder import below, exported, request, summing

from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.processors.usage_policy import in_force
from otel_usageflow.processors.usage_policy.in_force import InForce

SPANS = [request(1), below(1, 2, {"old": 5, "new": 7})]
OLD = engine(summing("old"))
PLAIN = engine(policy())


def new(wait: str = "20ms") -> PolicyEngine:
    return engine(summing("new", changes={"trace_wait": wait}))


def kept(what: InForce) -> set[str]:
    """What is kept of a span now."""
    batch = what.engine.evaluate(exported(SPANS), NOW)
    return {name for one in batch.trace_spans for name, _ in one.amounts}


def summed(what: InForce) -> list[tuple[str, ...]]:
    """What requests wait for now."""
    return [one.keys for one in what.engine.evaluate(exported(SPANS), NOW).trace_requests]


async def test_a_change_is_seen_by_all_spans_of_a_request() -> None:
    """What is to be summed is kept one wait before requests ask for it, and what was summed after they did."""
    policies = InForce(OLD)
    assert kept(policies) == {"old"}
    coming = new()
    preparing = asyncio.create_task(policies.prepare(coming))
    await asyncio.sleep(0)
    assert (kept(policies), summed(policies)) == ({"old", "new"}, [("old",)])
    began = asyncio.get_running_loop().time()
    await preparing
    assert asyncio.get_running_loop().time() - began > 0.01
    policies.change(coming)
    assert (kept(policies), summed(policies)) == ({"old", "new"}, [("new",)])
    policies.stop()


async def test_what_is_kept_for_requests_of_before_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A while later, nothing is kept that nobody sums; also where no policy sums anything any more."""
    monkeypatch.setattr(in_force, "AFTERWARDS", 0.02)
    policies = InForce(new("1ms"))
    await policies.prepare(PLAIN)
    policies.change(PLAIN)
    assert kept(policies) == {"new"}
    async with asyncio.timeout(5):
        while policies.engine is not PLAIN:  # noqa: ASYNC110  (time passes)
            await asyncio.sleep(0.005)
    assert kept(policies) == set()


async def test_changes_in_a_row() -> None:
    """Of two changes within a moment, requests of the first set are cared for as well."""
    policies = InForce(OLD)
    for coming in (new("1ms"), PLAIN):
        await policies.prepare(coming)
        policies.change(coming)
    assert kept(policies) == {"old", "new"}
    policies.stop()


async def test_a_change_that_is_given_up() -> None:
    """Whether it is discarded or interrupted, all is as it was."""
    policies = InForce(OLD)
    coming = new("1ms")
    await policies.prepare(coming)
    policies.stay()
    assert policies.engine is OLD
    preparing = asyncio.create_task(policies.prepare(new("1h")))
    await asyncio.sleep(0)
    assert kept(policies) == {"old", "new"}
    preparing.cancel()
    await asyncio.gather(preparing, return_exceptions=True)
    assert policies.engine is OLD


async def test_without_traces_a_change_takes_no_time() -> None:
    """Nor where the same is summed as before."""
    policies = InForce(PLAIN)
    await asyncio.wait_for(policies.prepare(PLAIN), 1)
    policies.change(PLAIN)
    assert policies.engine is PLAIN
    policies = InForce(OLD)
    other = engine(summing("old", changes={"status": "any"}))
    await asyncio.wait_for(policies.prepare(other), 1)
    policies.change(other)
    assert policies.engine is other
