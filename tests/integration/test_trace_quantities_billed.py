"""From spans on the wire to Stripe: what `preview` says of all of them is what is billed, however they come in."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from billing import billing
from span_builder import engine
from trace_builder import Placed, below, exported, request, summing

from otel_usageflow.model.usage import Terms
from otel_usageflow.policy.policy import compile_policy
from otel_usageflow.policy.preview import preview
from otel_usageflow.policy.spellings import CACHE_READ, INPUT, OUTPUT, TOTAL
from otel_usageflow.testing.stripe import StripeDouble

RULE = summing(TOTAL, input_excludes_cache=["anthropic"], changes={"trace_wait": "1s"})


def run_of_an_agent(ended: int) -> list[Placed]:
    """An agent that repeats the sum of three calls, each in another spelling: 1500 + 864 + 8 tokens."""
    spans = [
        request(1),
        below(1, 2, {TOTAL: 2372}),
        below(2, 3, {"gen_ai.system": "anthropic", INPUT: 200, OUTPUT: 300, CACHE_READ: 1000}),
        below(2, 4, {"llm.token_count.prompt": "800", "llm.token_count.completion": 64.0}),
        below(2, 5, {"gen_ai.usage.prompt_tokens": 8, "gen_ai.operation.name": "embeddings"}),
    ]
    for one in spans:
        one.span.end_time_unix_nano = ended
    return spans


def forwards(spans: list[Placed]) -> list[list[Placed]]:
    """All in one."""
    return [spans]


def backwards(spans: list[Placed]) -> list[list[Placed]]:
    """One by one, the request's own span last but one, the agent's last."""
    return [[one] for one in (*reversed(spans[2:]), *spans[:2])]


def twice(spans: list[Placed]) -> list[list[Placed]]:
    """In pieces that overlap, as after a retry."""
    shuffled = random.Random(3).sample(spans, len(spans))
    return [shuffled[:3], shuffled[2:], shuffled[:1]]


@pytest.mark.parametrize("arrive", [forwards, backwards, twice])
async def test_the_bill_is_what_preview_says(
    arrive: Callable[[list[Placed]], list[list[Placed]]], tmp_path: Path
) -> None:
    """In any order, in any batches, some of them twice: one event of the sum, in the exporter's account."""
    policies = engine(RULE)
    spans = run_of_an_agent(time.time_ns())
    (line,) = preview(policies, exported(spans), time.time_ns()).usage
    assert line.quantity == 2372
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", account="acct_1")
        customer = stripe.add_customer({"account_id": "acme"}, account="acct_1")
        async with billing(tmp_path, stripe, (_terms(),), account="acct_1") as running:
            for some in arrive(spans):
                await running.exporter.export(policies.evaluate(exported(some), time.time_ns()))
            await stripe.wait_until(lambda: len(stripe.accepted) >= 1)
        assert stripe.total("api_request", customer, account="acct_1") == 2372
        assert len(stripe.accepted) == 1
        assert stripe.violations == []


async def test_a_late_call_is_usage_of_its_own(tmp_path: Path) -> None:
    """It is billed to the request's user when it comes; the agent that repeats it is not billed beside it."""
    policies = engine(RULE)
    first = run_of_an_agent(time.time_ns())
    late = [first.pop(), first.pop(1)]
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, (_terms(),)) as running:
            for some in (first, late[1:]):
                await running.exporter.export(policies.evaluate(exported(some), time.time_ns()))
            await stripe.wait_until(lambda: len(stripe.accepted) == 1)
            await running.exporter.export(policies.evaluate(exported(late[:1]), time.time_ns()))
            await stripe.wait_until(lambda: len(stripe.accepted) == 2)
        assert stripe.total("api_request", customer) == 2372


def _terms() -> Terms:
    return compile_policy(RULE, frozenset()).terms


def test_terms_say_that_every_request_is_measured() -> None:
    """A meter that only counts is refused for such a policy, as for every measured one."""
    assert _terms().quantity is None
