"""Expressions over `span` on spans that real servers really sent: what they say does not depend on the stack."""

from pathlib import Path
from typing import Any

import pytest

from otel_usageflow.model.recorded import recorded_request
from otel_usageflow.policy.preview import Preview, preview
from otel_usageflow.processors.usage_policy import UsagePolicyConfig, compile_engine

CAPTURES = Path(__file__).parents[1] / "captures"
FILES = sorted([*CAPTURES.glob("*.pb"), *CAPTURES.glob("*.jsonl")])
WITHOUT_HEADERS = ("fastapi-native", "otelhttp-current")
"""Stacks that record no header, so that none of these requests has a user."""
NOW = 1_900_000_000_000_000_000

WRITTEN = {"endpoint": "GET /by/header", "user": {"header": "x-account-id"}, "match": {"service": "shop"}}
IN_CEL = {
    "endpoint": "* /**",
    "status": "any",
    "user": {"template": "{header:x-account-id}", "transform": {"regex": "^(.*)$"}},
    "match": {
        "condition": "resource['service.name'] == 'shop' && span.service == 'shop' && span.method == 'GET'"
        " && has(span.status) && span.status / 100 == 2"
        " && (has(span.path) ? span.path : span.route).matches('^/?by/header/?$')"
    },
    "quantity": {"expression": "span.duration_ns >= 0 && span.ended_ns > span.started_ns ? 1 : 2"},
}


def bill(capture: Path, policy: dict[str, Any]) -> Preview:
    """What the requests of a capture cost under one policy."""
    named = {"name": "a", "event_name": "e", "customer": {"metadata_field": "account_id"}, **policy}
    excluded = [] if capture.stem.endswith("-native") else ["fastapi"]
    config = UsagePolicyConfig.model_validate({"policies": [named], "exclude_scopes": excluded})
    return preview(compile_engine(config), recorded_request(capture.read_bytes()), NOW)


@pytest.mark.parametrize("capture", FILES, ids=lambda file: file.stem)
def test_a_policy_in_cel_bills_what_the_plain_one_bills(capture: Path) -> None:
    """Endpoint, method, status, service and user, each written as an expression, select the same requests."""
    plain, in_cel = bill(capture, WRITTEN), bill(capture, IN_CEL)
    assert len(plain.usage) > 1 or capture.stem in WITHOUT_HEADERS
    assert plain.usage or plain.quarantined
    assert in_cel.usage == plain.usage
    assert [line.requests for line in in_cel.quarantined] == [line.requests for line in plain.quarantined]
