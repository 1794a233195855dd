"""Tokens that are more than one attribute: totals, and those of a cache. Spans as in the reference, chapter 6."""

from typing import Any

import pytest
from span_builder import http, judge, only, policy

from otel_usageflow.model.usage import Reason
from otel_usageflow.policy.spellings import CACHE_READ, CACHE_WRITE, INPUT, OUTPUT, PROVIDER, TOTAL, UNCACHED

USER = {"http.request.header.x-account-id": "acme"}
ANTHROPIC = {PROVIDER: "anthropic"}
CACHED = {CACHE_READ: 900, CACHE_WRITE: 100}
INCLUSIVE = {INPUT: 1200, OUTPUT: 300} | CACHED
EXCLUSIVE = {INPUT: 200, OUTPUT: 300} | CACHED
EXCLUDES = {"input_excludes_cache": ["anthropic", "aws.bedrock"]}


def bill(attributes: dict[str, Any], key: str, **more: Any) -> Any:
    """The quantity of one request with these attributes, or why it has none."""
    record = only(judge(http() | USER | attributes, policy(quantity={"attribute": key} | more)))
    assert (record.quantity is None) == (record.reason is Reason.BAD_QUANTITY)
    return record.quantity


@pytest.mark.parametrize(
    ("attributes", "total"),
    [
        ({INPUT: 5, OUTPUT: 7}, 12),
        ({INPUT: 5, OUTPUT: 0}, 5),
        ({INPUT: 5, OUTPUT: 7, TOTAL: 13}, 13),
        ({INPUT: 5, OUTPUT: 7, "llm.token_count.total": 13}, 13),
        ({"gen_ai.usage.prompt_tokens": 5, "llm.usage.completion_tokens": "7"}, 12),
        ({TOTAL: 0}, 0),
        ({TOTAL: "many", INPUT: 5, OUTPUT: 7}, None),
        ({INPUT: 5}, None),
        ({OUTPUT: 7}, None),
        ({INPUT: 5, OUTPUT: -1}, None),
        ({INPUT: 10**18 - 1, OUTPUT: 1}, None),
        ({}, None),
        ({INPUT: 8, "gen_ai.operation.name": "embeddings"}, 8),
        ({INPUT: 8, "llm.request.type": "embedding"}, 8),
        ({INPUT: 8, "llm.request.type": "rerank"}, 8),
        ({"llm.token_count.prompt": 8, "openinference.span.kind": "EMBEDDING"}, 8),
        ({INPUT: 8, "gen_ai.operation.name": "chat"}, None),
        ({OUTPUT: 8, "gen_ai.operation.name": "embeddings"}, None),
    ],
)
def test_a_total_is_stated_or_the_sum_of_its_parts(attributes: dict[str, Any], total: Any) -> None:
    """Where a span states no total, both parts are needed: an unknown output is not 0, but for embeddings."""
    assert bill(attributes, TOTAL) == total


@pytest.mark.parametrize(
    ("attributes", "input_tokens", "total", "uncached"),
    [
        (INCLUSIVE, 1200, 1500, 200),
        (INCLUSIVE | {TOTAL: 1500}, 1200, 1500, 200),
        ({INPUT: 1000, OUTPUT: 1} | CACHED, 1000, 1001, 0),
        ({INPUT: 1200, OUTPUT: 300, CACHE_READ: 1000}, 1200, 1500, 200),
        ({INPUT: 1200, OUTPUT: 300}, 1200, 1500, 1200),
        ({INPUT: 1200, OUTPUT: 300, CACHE_READ: 0, CACHE_WRITE: 0}, 1200, 1500, 1200),
        (EXCLUSIVE, None, None, None),
        (EXCLUSIVE | {TOTAL: 500}, None, None, None),
        ({INPUT: 999, OUTPUT: 1} | CACHED, None, None, None),
        ({INPUT: 1200, OUTPUT: 300, CACHE_READ: "some"}, 1200, 1500, None),
        ({INPUT: "some", OUTPUT: 300}, None, None, None),
        (CACHED, None, None, None),
    ],
)
def test_input_tokens_include_those_of_the_cache(
    attributes: dict[str, Any], input_tokens: Any, total: Any, uncached: Any
) -> None:
    """So say the conventions; a span with more cached than input tokens shows otherwise, and is not guessed."""
    assert bill(attributes, INPUT) == input_tokens
    assert bill(attributes, TOTAL) == total
    assert bill(attributes, UNCACHED) == uncached


@pytest.mark.parametrize(
    ("attributes", "input_tokens", "total", "uncached"),
    [
        (EXCLUSIVE | ANTHROPIC, 1200, 1500, 200),
        (EXCLUSIVE | ANTHROPIC | {TOTAL: 500}, 1200, 1500, 200),
        (EXCLUSIVE | ANTHROPIC | {TOTAL: 1500}, 1200, 1500, 200),
        (EXCLUSIVE | {"gen_ai.system": "Anthropic"}, 1200, 1500, 200),
        (EXCLUSIVE | {"llm.provider": "aws.bedrock", "llm.system": "other"}, 1200, 1500, 200),
        ({INPUT: 200, OUTPUT: 300} | ANTHROPIC, 200, 500, 200),
        ({INPUT: 200, OUTPUT: 300, TOTAL: 501} | ANTHROPIC, 200, 501, 200),
        ({TOTAL: 500} | ANTHROPIC, None, 500, None),
        ({TOTAL: 500} | CACHED | ANTHROPIC, None, None, None),
        ({INPUT: 200, OUTPUT: 300, CACHE_READ: "some"} | ANTHROPIC, None, None, 200),
        (INCLUSIVE | {PROVIDER: "openai"}, 1200, 1500, 200),
        (INCLUSIVE, 1200, 1500, 200),
        (EXCLUSIVE | {PROVIDER: "openai"}, None, None, None),
    ],
)
def test_a_policy_can_say_whose_spans_leave_the_cache_out(
    attributes: dict[str, Any], input_tokens: Any, total: Any, uncached: Any
) -> None:
    """For spans of these providers, in any spelling and case, cached tokens are added; for all others they are in."""
    assert bill(attributes, INPUT, **EXCLUDES) == input_tokens
    assert bill(attributes, TOTAL, **EXCLUDES) == total
    assert bill(attributes, UNCACHED, **EXCLUDES) == uncached


def test_uncached_tokens_that_the_app_counts_itself_are_taken_as_they_are() -> None:
    """The name may be an attribute, too; what is written wins over what is worked out."""
    assert bill(INCLUSIVE | {UNCACHED: 7}, UNCACHED) == 7


def test_the_parts_of_an_input_make_the_whole() -> None:
    """Uncached, read and written tokens can be three meters, and never bill more or less than all input tokens."""
    for attributes, more in ((INCLUSIVE, {}), (EXCLUSIVE | ANTHROPIC, EXCLUDES)):
        parts = [bill(attributes, UNCACHED, **more), bill(attributes, CACHE_READ), bill(attributes, CACHE_WRITE)]
        assert sum(parts) == bill(attributes, INPUT, **more)


def test_decimals_stay_exact() -> None:
    """What is taken off loses nothing beside large numbers."""
    held = {INPUT: 10**17, CACHE_READ: "0.000000000000000001"}
    assert str(bill(held, UNCACHED)) == "99999999999999999.999999999999999999"
