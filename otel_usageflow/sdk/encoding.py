"""Records as an OTLP export request."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

from otel_usageflow.sdk.privacy import resource_attributes
from otel_usageflow.sdk.record import Record, Value

ENTERED = 0x300
"""Span flags: whether the parent is remote is known, and it is (trace.proto, SpanFlags)."""
ROOT = 0x100


PROCESS = "otel_usageflow.sdk.process"
"""Resource attribute: a random name for this process, so that the service can add up what several say."""
LOST = "otel_usageflow.sdk.lost"
"""Resource attribute: the requests that this process had to give up since it began."""


def encode(records: Iterable[Record], process: str = "", lost: int = 0) -> tuple[bytes, int]:
    """The request, and how many records could not be written into it.

    Args:
        records: what is sent.
        process: a name for this process.
        lost: what this process had to give up so far; nothing is said of nothing.
    """
    said: dict[str, Value] = {PROCESS: process, LOST: lost} if lost else {}
    request = ExportTraceServiceRequest()
    places: dict[tuple[int, tuple[str, str]], ScopeSpans] = {}
    unwritable = 0
    for record in records:
        try:
            span = _span(record)
        except ValueError:  # text that is no Unicode, an integer of more than 64 bits
            unwritable += 1
            continue
        place = places.get((id(record.resource), record.scope))
        if place is None:
            resource = request.resource_spans.add()
            resource.resource.attributes.extend(_pairs({**resource_attributes(record.resource), **said}))
            place = resource.scope_spans.add()
            place.scope.name, place.scope.version = record.scope
            places[id(record.resource), record.scope] = place
        place.spans.append(span)
    return request.SerializeToString(), unwritable


def _span(record: Record) -> Span:
    return Span(
        trace_id=record.trace_id.to_bytes(16, "big"),
        span_id=record.span_id.to_bytes(8, "big"),
        parent_span_id=record.parent_id.to_bytes(8, "big") if record.parent_id else b"",
        flags=ENTERED if record.parent_id else ROOT,
        name=record.name,
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=record.start,
        end_time_unix_nano=record.end,
        attributes=_pairs(record.attributes),
        status=Status(code=Status.STATUS_CODE_ERROR) if record.failed else None,
    )


def _pairs(attributes: Mapping[str, Value]) -> list[KeyValue]:
    return [_pair(key, value) for key, value in attributes.items()]


@lru_cache(2048, typed=True)  # most attributes are the same from request to request; typed, because True == 1 == 1.0
def _pair(key: str, value: Value) -> KeyValue:
    return KeyValue(key=key, value=_value(value))


def _value(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    result = AnyValue()
    result.array_value.SetInParent()
    result.array_value.values.extend(_value(element) for element in value)
    return result
