"""What a fuzzer begins with: requests of real instrumentations, cut to what it can change in a hurry."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_usageflow.model.recorded import recorded_request

CAPTURES = Path(__file__).parents[1] / "captures"
_EACH = 6
"""Spans that are taken of one capture."""


def seeds(subject: str, longest: int) -> Iterator[bytes]:
    """Inputs for a subject, none longer than so many bytes, the same every time."""
    if subject == "attributes":
        chance = random.Random(1)
        yield from (chance.randbytes(size) for size in range(20, 400, 20))
        return
    for file in sorted([*CAPTURES.glob("*.pb"), *CAPTURES.glob("*.jsonl")]):
        for data in _spans(file):
            for seed in _forms(data, subject):
                if len(seed) <= longest:
                    yield seed


def _spans(file: Path) -> Iterator[ExportTraceServiceRequest]:
    """A few spans of a capture, each with its resource and scope."""
    whole = ExportTraceServiceRequest.FromString(recorded_request(file.read_bytes()))
    taken = 0
    for resource_spans in whole.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                if taken == _EACH:
                    return
                taken += 1
                made = ExportTraceServiceRequest()
                one = made.resource_spans.add(resource=resource_spans.resource)
                one.scope_spans.add(scope=scope_spans.scope, spans=[span])
                yield made


def _forms(message: ExportTraceServiceRequest, subject: str) -> Iterator[bytes]:
    if subject in {"json", "recorded"}:
        yield _as_otlp_json(message)
    if subject in {"evaluate", "reader", "recorded"}:
        yield message.SerializeToString()


def _as_otlp_json(message: ExportTraceServiceRequest) -> bytes:
    """OTLP's JSON differs from protobuf's own: ids are hexadecimal, and enumerations numbers."""
    document = MessageToDict(message, use_integers_for_enums=True)
    span = message.resource_spans[0].scope_spans[0].spans[0]
    ids = {"traceId": span.trace_id, "spanId": span.span_id, "parentSpanId": span.parent_span_id}
    written = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    written.update({name: one.hex() for name, one in ids.items() if one})
    written.pop("links", None)
    return json.dumps(document).encode()
