"""The same calls of models, reported by three vendors' instrumentations and recorded, cost the same under one policy.

How the captures are made: tests/captures/models/record.py. What a provider answers: provider.py beside it.
"""

from pathlib import Path
from typing import Any

import pytest
from span_builder import NOW, engine, policy

from otel_usageflow.policy.preview import preview
from otel_usageflow.policy.spellings import CACHE_READ, INPUT, OUTPUT, TOTAL, UNCACHED

MODELS = Path(__file__).parents[1] / "captures" / "models"
VENDORS = ("genai", "openinference", "openllmetry")
ANTHROPIC_SDK = "com.anthropic.sdk.python"
ITS_OWN = {
    "genai": "opentelemetry.instrumentation.genai.anthropic",
    "openinference": "openinference.instrumentation.anthropic",
    "openllmetry": "opentelemetry.instrumentation.anthropic",
}


def bill(vendor: str, endpoint: str, *attributes: str, **more: Any) -> Any:
    """What the recorded request to this endpoint costs: its quantity, or why it has none."""
    quantity = {"from": "trace", "attributes": list(attributes)} | more
    rule = policy(endpoint=f"POST {endpoint}", quantity=quantity)
    result = preview(engine(rule), (MODELS / f"{vendor}.pb").read_bytes(), NOW)
    assert result.requests == 3
    if result.quarantined:
        return result.quarantined[0].reason
    (line,) = result.usage
    assert (line.user, line.requests) == ("acme", 1)
    return line.quantity


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("attributes", "quantity"),
    [
        ([TOTAL], 3 * 1500 + 8),
        ([INPUT, OUTPUT], 3 * 1500 + 8),
        ([INPUT], 3 * 1200 + 8),
        (["llm.token_count.prompt"], 3 * 1200 + 8),
        (["gen_ai.usage.completion_tokens"], 3 * 300),
        ([CACHE_READ], 3 * 900),
        ([UNCACHED], 3 * 300 + 8),
    ],
)
def test_calls_of_openai_cost_the_same(vendor: str, attributes: list[str], quantity: int) -> None:
    """A chat, a stream with its numbers, a response and an embedding: every vendor's spans give one sum."""
    assert bill(vendor, "/openai", *attributes) == quantity


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_stream_without_numbers_is_kept_aside(vendor: str) -> None:
    """Where the provider was not asked for them, no vendor has any, and nothing is taken for 0."""
    assert bill(vendor, "/silent", TOTAL) == "bad_quantity"


@pytest.mark.parametrize("vendor", VENDORS)
def test_calls_of_anthropic_cost_the_same_by_its_own_spans(vendor: str) -> None:
    """The SDK reports each call itself, whatever is installed beside it; input includes what was cached."""
    for attribute, quantity in ((TOTAL, 3000), (INPUT, 2400), (UNCACHED, 400), (CACHE_READ, 1800)):
        assert bill(vendor, "/anthropic", attribute, scope=ANTHROPIC_SDK) == quantity


@pytest.mark.parametrize(("vendor", "input_tokens", "output"), [(v, 2400, 600) for v in ("genai", "openinference")])
def test_calls_of_anthropic_by_the_vendors_spans(vendor: str, input_tokens: int, output: int) -> None:
    """An instrumentation's own spans say the same as the SDK's, where it is the one that is chosen."""
    assert bill(vendor, "/anthropic", INPUT, scope=ITS_OWN[vendor]) == input_tokens
    assert bill(vendor, "/anthropic", OUTPUT, scope=ITS_OWN[vendor]) == output


def test_what_a_vendor_reports_wrongly_is_billed_as_reported() -> None:
    """OpenLLMetry 0.62 adds the first count of a stream's output (1) to the last (300): choose the SDK's spans."""
    assert bill("openllmetry", "/anthropic", OUTPUT, scope=ITS_OWN["openllmetry"]) == 601


@pytest.mark.parametrize(("vendor", "quantity"), [("genai", 3000), ("openinference", 3000), ("openllmetry", 6001)])
def test_two_reports_of_one_call_add_up_unless_one_is_inside_the_other(vendor: str, quantity: int) -> None:
    """Side by side they look like two calls, so that a scope has to be named."""
    assert bill(vendor, "/anthropic", TOTAL) == quantity
