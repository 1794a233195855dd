"""Every quantity that docs/quantities.md shows is what the page says."""

import re
from typing import Any

import pytest
import yaml
from documents import ROOT
from span_builder import LOCAL, NOW, engine, http, policy, span
from trace_builder import Placed, below, exported

from otel_usageflow.policy.preview import preview

PAGE = (ROOT / "docs/quantities.md").read_text()
BLOCKS = [
    (heading, block)
    for heading, section in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    for block in re.findall(r"^```yaml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
]
SECOND = 1_000_000_000
TOKENS = {"gen_ai.usage.input_tokens": 1200, "gen_ai.usage.output_tokens": 300}
CACHE = {"gen_ai.usage.cache_read.input_tokens": 900, "gen_ai.usage.cache_write.input_tokens": 100}

CASES: list[tuple[str, list[tuple[dict[str, Any], Any]]]] = [
    (
        "Sizes",
        [
            ({"http.request.body.size": 10, "http.response.body.size": 30}, 40),
            ({"http.request_content_length": "10", "http.response_content_length": "30"}, 40),
            ({"http.request.body.size": 10, "http.request_content_length": 11, "http.response.body.size": 30}, 40),
            ({"http.response.body.size": 30}, None),
            ({"http.request.body.size": 0, "http.response.body.size": 0}, 0),
        ],
    ),
    ("Sizes", [({"http.request.body.size": 10}, 10), ({}, 0)]),
    ("Durations", [({"took": 0}, 0), ({"took": 1}, 1), ({"took": SECOND}, 1), ({"took": SECOND + 1}, 2)]),
    ("Durations", [({"took": 0}, 0), ({"took": 1}, 1), ({"took": 60 * SECOND}, 1), ({"took": 60 * SECOND + 1}, 2)]),
    ("Durations", [({"took": 999_999}, 0), ({"took": 2_999_999}, 2), ({"took": -1}, None)]),
    ("Tiers", [({"app.plan": "pro", "app.pages": 4}, 4), ({"app.plan": "free", "app.pages": 4}, "no policy")]),
    ("Tiers", [({"app.plan": "pro", "app.pages": "4"}, 12), ({"app.plan": "free", "app.pages": 4}, 4)]),
    ("Tokens on the request's span", [(TOKENS, 1500), ({"gen_ai.usage.input_tokens": 5}, None)]),
    ("Tokens of the whole trace", [({"below": TOKENS}, 1500), (TOKENS, 1500), ({}, None)]),
    ("Tokens of the whole trace", [({"below": TOKENS, "scope": "opentelemetry.instrumentation.anthropic"}, 1500)]),
    (
        "Tokens of a cache",
        [
            ({"below": TOKENS | CACHE | {"gen_ai.system": "openai"}}, 1500),
            ({"below": TOKENS | CACHE | {"gen_ai.system": "anthropic"}}, 2500),
            ({"below": CACHE | {"gen_ai.usage.input_tokens": 1, "gen_ai.usage.output_tokens": 1}}, None),
        ],
    ),
    ("Tokens of a cache", [({"below": TOKENS | CACHE}, 200), ({"below": TOKENS}, 1200)]),
    ("Tokens of a cache", [({"below": TOKENS | CACHE}, 900), ({"below": TOKENS}, None)]),
    ("Tokens of a cache", [({"below": TOKENS | CACHE}, 100)]),
]


def test_every_block_is_tried() -> None:
    """No quantity on the page is without a case here, and none is here that is not on the page."""
    assert [heading for heading, _ in BLOCKS] == [heading for heading, _ in CASES]


@pytest.mark.parametrize(
    ("block", "attributes", "expected"),
    [(block, *case) for (_, block), (_, cases) in zip(BLOCKS, CASES, strict=False) for case in cases],
)
def test_a_block_bills_what_the_page_says(block: str, attributes: dict[str, Any], expected: Any) -> None:
    """The YAML is part of a policy, and its quantity of a request with these attributes is this."""
    held = dict(attributes)
    took, child, scope = held.pop("took", SECOND), held.pop("below", None), held.pop("scope", "tests")
    end = NOW - SECOND
    own = http() | {"http.request.header.x-account-id": "acme"} | held
    spans = [Placed(span(own, number=1, flags=LOCAL, start=end - took, end=end))]
    if child is not None:
        spans += [below(1, 2, child, scope=scope)]
    result = preview(engine(policy(**yaml.safe_load(block))), exported(spans), NOW)
    if expected is None:
        assert [(line.reason, line.requests) for line in result.quarantined] == [("bad_quantity", 1)]
    else:
        assert [line.quantity for line in result.usage] == ([] if expected == "no policy" else [expected])
    assert result.unmatched_requests == (expected == "no policy")
