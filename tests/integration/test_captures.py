"""`preview` on spans that real servers really sent: the same traffic costs the same, whatever the stack.

How the captures are made, and where the expected bill comes from: docs/capturing.md.
"""

import copy
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_usageflow.cli import main

CAPTURES = Path(__file__).parents[1] / "captures"
FILES = sorted([*CAPTURES.glob("*.pb"), *CAPTURES.glob("*.jsonl")])
PROTOBUF = [file for file in FILES if file.suffix == ".pb"]
EXPECTED: dict[str, Any] = json.loads((CAPTURES / "expected.json").read_text(encoding="utf-8"))
PARTS = ("usage", "quarantined", "unbilled")

OWN_NAMES_BESIDE = "fastapi-old"
"""FastAPI's own telemetry reports the mounted app in new names, whatever the contrib instrumentation was told."""

Bill = dict[str, Any]
Preview = Callable[[bytes, str], Bill]


@pytest.fixture
def preview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Preview:
    """What `otel-usageflow preview --format json` prints for these bytes, without the number of spans."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STRIPE_API_KEY", raising=False)

    def run(spans: bytes, name: str) -> Bill:
        file = tmp_path / name
        file.write_bytes(spans)
        config = str(CAPTURES / "policies.yaml")
        sets = [argument for each in sets_of().get(file.stem, []) for argument in ("--set", each)]
        status = main(["preview", "--config", config, *sets, "--input", str(file), "--format", "json"])
        output = capsys.readouterr()
        assert status == 0, output.err
        printed: Bill = json.loads(output.out)
        assert printed.pop("spans") > 0
        return printed

    return run


def expected_bill(capture: str) -> Bill:
    """The bill of a capture: that of all, but for what its exceptions say."""
    bill = copy.deepcopy(EXPECTED["bill"])
    exception = EXPECTED["exceptions"].get(capture)
    if exception:
        bill["requests"] = exception["requests"]
        bill["unmatched_requests"] = exception["unmatched_requests"]
        for part in PARTS:
            rows = [row for row in bill[part] if row not in exception["without"][part]]
            bill[part] = in_order([*rows, *exception["with"][part]])
    return bill


def in_order(rows: Iterable[Bill]) -> list[Bill]:
    return sorted(rows, key=lambda row: (row["policy"], row.get("event_name"), row.get("user"), row.get("reason")))


def test_every_stack_is_captured() -> None:
    """The committed captures are exactly those that the recorder makes, and at least the stacks that users need."""
    made = run_in_captures("from stacks import CAPTURES; print(*(c.file.name for c in CAPTURES))").split()

    assert sorted(made) == [file.name for file in FILES]
    needed = "flask django fastapi starlette aiohttp node-http express fastify koa otelhttp servlet spring"
    assert set(needed.split()) <= {file.stem.rpartition("-")[0] for file in FILES}


def test_the_expected_bill_is_the_traffics_own() -> None:
    """expected.json is what stands beside each request of the traffic, added up: no output of ours goes into it."""
    names = [file.stem for file in FILES]

    text = run_in_captures(f"from oracle import expected_text; print(expected_text({names}), end='')")

    assert text == (CAPTURES / "expected.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_capture_has_the_conventions_of_its_name(file: Path) -> None:
    """A capture holds old names, new names or both, as it is called, and no path of the machine it was made on."""
    spans = file.read_bytes()
    conventions = file.stem.rpartition("-")[2]

    assert (b"http.method" in spans) == (conventions in {"old", "dup"})
    assert (b"url.scheme" in spans) == (conventions != "old" or file.stem == OWN_NAMES_BESIDE)
    for trace_of_a_machine in (b"site-packages", b"node_modules", b"/home/", b"/root/", b"/tmp/"):
        assert trace_of_a_machine not in spans


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_same_traffic_costs_the_same(file: Path, preview: Preview) -> None:
    """Whatever the stack and its conventions, the bill is that of the traffic, but for named, explained losses."""
    assert preview(file.read_bytes(), file.name) == expected_bill(file.stem)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_capture_read_twice_costs_once(file: Path, preview: Preview) -> None:
    """A span that the input holds twice counts once."""
    assert preview(file.read_bytes() * 2, file.name) == expected_bill(file.stem)


@pytest.mark.parametrize("file", PROTOBUF, ids=lambda file: file.stem)
def test_the_bill_does_not_depend_on_order_or_batches(file: Path, preview: Preview) -> None:
    """Each span in an export request of its own, last span first: the same bill, nested SERVER spans included."""
    alone = b"".join(reversed(one_by_one(file.read_bytes())))

    assert preview(alone, file.name) == expected_bill(file.stem)


def test_captures_of_many_services_add_up(preview: Preview) -> None:
    """Protobuf captures in one input, twice: each costs what it costs by itself."""
    files = [file for file in PROTOBUF if file.stem not in sets_of()]
    everything = b"".join(file.read_bytes() for file in files)

    bill = preview(everything * 2, "everything.pb")

    alone = [expected_bill(file.stem) for file in files]
    assert bill["requests"] == sum(each["requests"] for each in alone)
    assert bill["unmatched_requests"] == sum(each["unmatched_requests"] for each in alone)
    for part in PARTS:
        assert requests_by_row(bill[part]) == requests_by_row(row for each in alone for row in each[part])


def test_the_sink_keeps_what_an_exporter_sends(tmp_path: Path) -> None:
    """The sink of the recorder, which docs/capturing.md recommends, appends whole export requests to its file."""
    file = tmp_path / "spans.pb"
    with load("sink").Sink(into=file) as sink:
        exporter = OTLPSpanExporter(f"{sink.endpoint}/v1/traces", compression=Compression.Gzip)
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        for name in ("first", "second"):
            provider.get_tracer("test").start_span(name).end()
        provider.shutdown()

    request = ExportTraceServiceRequest.FromString(file.read_bytes())
    names = [span.name for part in request.resource_spans for scope in part.scope_spans for span in scope.spans]
    assert names == ["first", "second"]


def one_by_one(spans: bytes) -> list[bytes]:
    """Each span in an export request of its own."""
    requests = []
    for resource_spans in ExportTraceServiceRequest.FromString(spans).resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                request = ExportTraceServiceRequest()
                resource = request.resource_spans.add(resource=resource_spans.resource)
                resource.scope_spans.add(scope=scope_spans.scope, spans=[span])
                requests.append(request.SerializeToString())
    return requests


def requests_by_row(rows: Iterable[Bill]) -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        key = tuple(f"{name}={value}" for name, value in row.items() if name not in {"requests", "quantity"})
        counts[key] += row["requests"]
    return counts


def run_in_captures(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=CAPTURES, capture_output=True, text=True, check=True
    )
    return done.stdout


@cache
def sets_of() -> dict[str, list[str]]:
    """Capture -> the `--set` arguments with which it is billed, where it has any."""
    printed = run_in_captures(
        "import json, stacks; print(json.dumps({c.name: c.sets for c in stacks.CAPTURES if c.sets}))"
    )
    sets: dict[str, list[str]] = json.loads(printed)
    return sets


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CAPTURES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
