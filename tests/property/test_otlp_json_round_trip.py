"""OTLP/JSON and protobuf are two forms of one request: whatever is written as JSON is read as the same message."""

import base64
import json
from typing import Any

from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_usageflow.errors import InvalidData
from otel_usageflow.model.otlp_json import otlp_json_to_protobuf
from otel_usageflow.receivers.otlp.json import transcode

text = st.text(max_size=12)
uint64 = st.integers(0, 2**64 - 1)
uint32 = st.integers(0, 2**32 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Keyword arguments of a message, any of them missing."""
    return st.fixed_dictionaries({}, optional=fields)


values = st.recursive(
    st.one_of(
        st.just({}),
        text.map(lambda v: {"string_value": v}),
        st.booleans().map(lambda v: {"bool_value": v}),
        int64.map(lambda v: {"int_value": v}),
        st.floats(allow_nan=False).map(lambda v: {"double_value": v}),
        st.binary(max_size=8).map(lambda v: {"bytes_value": v}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda v: {"array_value": {"values": v}}),
        st.lists(optional(key=text, value=inner), max_size=3).map(lambda v: {"kvlist_value": {"values": v}}),
    ),
    max_leaves=5,
)
attributes = st.lists(optional(key=text, value=values), max_size=3)
ids = st.binary(min_size=8, max_size=8)
links = optional(trace_id=st.binary(min_size=16, max_size=16), span_id=ids, flags=uint32, attributes=attributes)
events = optional(time_unix_nano=uint64, name=text, attributes=attributes, dropped_attributes_count=uint32)
spans = optional(
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=ids,
    parent_span_id=ids,
    trace_state=text,
    name=text,
    kind=st.integers(0, 5),
    start_time_unix_nano=uint64,
    end_time_unix_nano=uint64,
    attributes=attributes,
    dropped_attributes_count=uint32,
    events=st.lists(events, max_size=2),
    dropped_events_count=uint32,
    links=st.lists(links, max_size=2),
    dropped_links_count=uint32,
    status=optional(message=text, code=st.integers(0, 2)),
    flags=uint32,
)
scopes = optional(
    scope=optional(name=text, version=text, attributes=attributes, dropped_attributes_count=uint32),
    spans=st.lists(spans, max_size=3),
    schema_url=text,
)
resources = optional(
    resource=optional(attributes=attributes, dropped_attributes_count=uint32),
    scope_spans=st.lists(scopes, max_size=2),
    schema_url=text,
)
requests = st.lists(resources, max_size=2).map(lambda v: ExportTraceServiceRequest(resource_spans=v))


def to_otlp_json(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """The generic JSON form with its enums as numbers, and its ids turned from base64 to hex."""
    document: dict[str, Any] = json_format.MessageToDict(request, use_integers_for_enums=True)
    for resource in document.get("resourceSpans", []):
        for scope in resource.get("scopeSpans", []):
            for span in scope.get("spans", []):
                for holder in (span, *span.get("links", [])):
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in holder:
                            holder[key] = base64.b64decode(holder[key]).hex()
    return document


@given(requests)
@settings(deadline=None, max_examples=150)
def test_json_gives_the_same_message_as_protobuf(request: ExportTraceServiceRequest) -> None:
    """A request written as OTLP/JSON and read back is the request."""
    document = to_otlp_json(request)
    assert ExportTraceServiceRequest.FromString(otlp_json_to_protobuf(document)) == request
    assert ExportTraceServiceRequest.FromString(transcode(json.dumps(document).encode())) == request


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


@given(requests, st.data())
@settings(deadline=None, max_examples=150)
def test_anything_else_is_invalid_data_or_a_readable_request(
    request: ExportTraceServiceRequest, data: st.DataObject
) -> None:
    """A value put in any place of a request gives a message that protobuf reads, or `InvalidData`; no other error."""
    document = to_otlp_json(request)
    place: Any = document
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()) or not isinstance(place[key], dict | list):
            place[key] = data.draw(json_values)
            break
        place = place[key]
    try:
        payload = otlp_json_to_protobuf(document)
    except InvalidData:
        return
    ExportTraceServiceRequest.FromString(payload)
