"""docs/metrics.md against the running service: every metric is there, with kind and labels; alerts use no other."""

import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from minimal import minimal
from prometheus_client.parser import text_string_to_metric_families
from span_builder import http, payload, span

from otel_usageflow.component import Kind
from otel_usageflow.service.service import Service
from otel_usageflow.testing.stripe import StripeDouble

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()
ALERTS = yaml.safe_load((ROOT / "collector_config" / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
_ROW = re.compile(r"^\| `(?P<name>otel_usageflow_\w+)` \| (?P<kind>\w+) \| (?P<labels>[^|]*)\| ", re.MULTILINE)
_SELECTED = re.compile(r"(?P<name>otel_usageflow_\w+)(\{(?P<labels>[^}]*)\})?")

LISTED = {row["name"]: (row["kind"], frozenset(re.findall(r"`(\w+)`", row["labels"]))) for row in _ROW.finditer(PAGE)}


async def emitted(directory: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Metric -> kind and labels, of a service of all components with sampled and doubled spans and a problem."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        readers = "[{pull: {exporter: {prometheus: {port: 0}}}}]"
        config = minimal(
            directory,
            stripe,
            "metrics.yaml",
            service__telemetry__metrics__readers=readers,
            processors__usage_policy__policies=_policies(directory),
            extensions__ingesttokenauth="{storage: sqlite_storage}",
            service__extensions="[sqlite_storage, health_check, ingesttokenauth]",
        )
        service = Service(config)
        try:
            await service.start()
            service.health.report("extensions::sqlite_storage", "full")
            processor = service.components[Kind.PROCESSOR, "usage_policy"]
            processor.process(_sampled(), time.time_ns())
            for scope in ("flask", "wsgi"):
                processor.process(payload(*[span(http("/elsewhere"))] * 60, scope=scope), time.time_ns())
            text = (await service.metrics.page()).written("")[0].decode()
        finally:
            await service.stop()
    return {
        sample.name: (family.type, frozenset(sample.labels))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _sampled() -> bytes:
    sampled = span(http("/elsewhere"))
    sampled.trace_state = "ot=th:0000000001;rv:ffffffffffffff"
    return payload(sampled)


def _policies(directory: Path) -> str:
    """One policy that verifies tokens by a file of keys."""
    secret = base64.urlsafe_b64encode(b"k" * 32).decode()
    file = directory / "keys.json"
    file.write_text(json.dumps({"keys": [{"kty": "oct", "k": secret}]}))
    user = f"{{jwt: {{claim: sub, verify: {{jwks_file: {file}}}}}}}"
    customer = "{metadata_field: account_id}"
    return f"[{{name: chat, endpoint: POST /chat, user: {user}, customer: {customer}, event_name: api_request}}]"


async def test_every_metric_is_documented(tmp_path: Path) -> None:
    """What the service shows is what the page lists: names, kinds and labels; those of the process by name."""
    shown = await emitted(tmp_path)
    assert {name: what for name, what in shown.items() if name.startswith("otel_usageflow_")} == LISTED
    of_the_process = {name for name in shown if not name.startswith("otel_usageflow_")}
    assert of_the_process <= set(re.findall(r"`(process_\w+)`", PAGE))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_uses_what_exists(rule: dict[str, Any]) -> None:
    """Its metrics and their labels are those of the page, and it says what is wrong and what to do."""
    selected = list(_SELECTED.finditer(rule["expr"]))
    assert selected
    for one in selected:
        assert one["name"] in LISTED
        assert set(re.findall(r"(\w+)=", one["labels"] or "")) <= LISTED[one["name"]][1]
    grouped = {name for names in re.findall(r"by \(([^)]*)\)", rule["expr"]) for name in names.split(", ")}
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    available = grouped or {label for one in selected for label in LISTED[one["name"]][1]}
    assert shown <= available
    assert grouped <= {label for one in selected for label in LISTED[one["name"]][1]}
    assert rule["annotations"]["remedy"]


def test_alerts_have_names_of_their_own() -> None:
    """There are some, and no two have one name."""
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names)) > 5
