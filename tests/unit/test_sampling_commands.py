"""`preview` and `discover` say that requests look sampled; `preview` bills as the service would."""

import json
import random
from pathlib import Path

import pytest
from span_builder import http, payload, span

from otel_usageflow.cli import main

CONFIG = """
receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:4318}}}}
processors:
  usage_policy:
    policies:
      - name: chat
        endpoint: POST /chat
        user: {header: x-account-id}
        customer: {metadata_field: account_id}
        event_name: api_request
exporters: {debug: {}}
service: {pipelines: {traces: {receivers: [otlp], processors: [usage_policy], exporters: [debug]}}}
"""
ADJUST = ("--set", "processors::usage_policy::sampling=adjust")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A configuration, and sixty requests of one in four, as a consistent sampler keeps them."""
    chance = random.Random(11)
    spans = []
    for number in range(60):
        one = span(http() | {"http.request.header.x-account-id": ["acme"]}, number=number + 1)
        one.trace_id = chance.randbytes(9) + bytes([chance.randrange(0xC0, 0x100)]) + chance.randbytes(6)
        one.trace_state = "ot=th:c"
        spans.append(one)
    cut = span(http(), number=100)
    cut.trace_id, cut.dropped_attributes_count = chance.randbytes(16), 2
    config, recorded = tmp_path / "usageflow.yaml", tmp_path / "spans.pb"
    config.write_text(CONFIG)
    recorded.write_bytes(payload(*spans, cut))
    return str(config), str(recorded)


def test_preview_says_so(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Below the bill: how much arrives, how that is seen, what it means for the bill, and what to do."""
    assert main(["preview", "--config", files[0], "--input", files[1]]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "60 of 61 requests of shop stand for several (ot=th in tracestate): about 25 % of all arrive" in told
    assert "each counts once. Remedy: record every SERVER span (AlwaysOn, or otel_usageflow.sdk)" in told
    assert "chat: 1 request without a user lost attributes to a limit of the SDK" in told


def test_preview_bills_as_the_service_would(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each request once, or, under adjust, four times; the object of the contract has no further keys."""
    quantities = []
    for more in ((), ADJUST):
        assert main(["preview", "--config", files[0], "--input", files[1], "--format", "json", *more]) == 0
        bill = json.loads(capsys.readouterr().out)
        assert sorted(bill) == ["quarantined", "requests", "spans", "unbilled", "unmatched_requests", "usage"]
        (line,) = bill["usage"]
        quantities.append((line["requests"], line["quantity"]))
    assert quantities == [(60, "60"), (60, "240")]


def test_the_difference_can_be_seen(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """`preview --against` shows what adjust would change, for each customer, before it does."""
    arguments = ["preview", "--config", files[0], "--against", files[0], "--input", files[1], "--format", "json"]
    assert main([*arguments, *ADJUST]) == 3
    (line,) = json.loads(capsys.readouterr().out)["usage"]
    assert line["quantity"] == {"before": "60", "after": "240", "difference": "180"}


def test_discover_says_so(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Among the remarks, before policies are written."""
    assert main(["discover", "--input", files[1], "--format", "json"]) == 0
    remarks = {remark["about"]: remark["text"] for remark in json.loads(capsys.readouterr().out)["remarks"]}
    assert "about 25 % of all arrive" in remarks["sampled"]
    assert "1 request lost attributes" in remarks["cut_short"]
