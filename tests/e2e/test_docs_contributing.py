"""The component of CONTRIBUTING.md works as it is printed there, in a service of its own."""

import asyncio
import json
import sys
import time
import tomllib
import urllib.request
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from documents import ROOT, blocks

from otel_usageflow.component import Kind
from otel_usageflow.components import GROUP, registry
from otel_usageflow.config.load import load
from otel_usageflow.service.service import Service

PAGE = ROOT / "CONTRIBUTING.md"


def block(language: str) -> str:
    """The one block of a language."""
    (text,) = [found.text for found in blocks(PAGE) if found.language == language]
    return text


async def test_the_component_of_the_page_bills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed lines and entry point are all that it takes: a span that is posted becomes a line of the file."""
    (tmp_path / "usageflow_lines.py").write_text(block("python"))
    monkeypatch.syspath_prepend(str(tmp_path))
    ((name, value),) = tomllib.loads(block("toml"))["project"]["entry-points"][GROUP].items()

    config = yaml.safe_load((ROOT / "collector_config" / "minimal.yaml").read_text())
    config["receivers"]["otlp"]["protocols"] = {"http": {"endpoint": "127.0.0.1:0"}}
    config["exporters"] = {name: {"path": str(tmp_path / "usage.jsonl")}}
    config["extensions"] = {}
    config["service"] = {
        "pipelines": {"traces": {"receivers": ["otlp"], "processors": ["usage_policy"], "exporters": [name]}}
    }
    file = tmp_path / "usageflow.yaml"
    file.write_text(yaml.safe_dump(config))

    service = Service(load([str(file)], [], registry([EntryPoint(name, value, GROUP)])))
    await service.start()
    try:
        address = service.components[Kind.RECEIVER, "otlp"].http_address
        await post(f"http://{address}/v1/traces")
    finally:
        await service.stop()
        sys.modules.pop("usageflow_lines", None)
    lines = [json.loads(line) for line in (tmp_path / "usage.jsonl").read_text().splitlines()]
    assert lines == [{"event": "api_request", "user": "acme", "quantity": "1"}]


async def post(url: str) -> None:
    """Send one request's span as OTLP/JSON."""
    ended = str(time.time_ns())
    attributes = {
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.request.header.x-account-id": "acme",
    }
    span = {
        "traceId": "1" * 32,
        "spanId": "2" * 16,
        "kind": 2,
        "flags": 256,
        "endTimeUnixNano": ended,
        "attributes": [
            {"key": "http.response.status_code", "value": {"intValue": "200"}},
            *({"key": key, "value": {"stringValue": value}} for key, value in attributes.items()),
        ],
    }
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    answer = await asyncio.to_thread(urllib.request.urlopen, request, timeout=10)
    assert answer.status == 200
