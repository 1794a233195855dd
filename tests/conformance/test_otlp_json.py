"""OTLP specification, "JSON Protobuf Encoding": how the JSON form differs from the generic one."""

import json
import math
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_usageflow.errors import InvalidData
from otel_usageflow.model.otlp_json import otlp_json_to_protobuf
from otel_usageflow.receivers.otlp.json import transcode

TRACE_ID = "5B8EFFF798038103D269B633813FC60C"
SPAN_ID = "EEE19B7EC3C1B174"


def document(*spans: Any) -> dict[str, Any]:
    """A request with these spans."""
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def spans_of(payload: bytes) -> list[Span]:
    """The spans of a request with one resource and one scope."""
    return list(ExportTraceServiceRequest.FromString(payload).resource_spans[0].scope_spans[0].spans)


def span_of(fields: dict[str, Any]) -> Span:
    """What becomes of one span."""
    return spans_of(otlp_json_to_protobuf(document({"traceId": TRACE_ID, "spanId": SPAN_ID} | fields)))[0]


def value_of(value: Any) -> AnyValue:
    """What becomes of one attribute's value."""
    return span_of({"attributes": [{"key": "k", "value": value}]}).attributes[0].value


def problem_of(fields: dict[str, Any]) -> str:
    """The message about a span that cannot be read."""
    with pytest.raises(InvalidData) as caught:
        span_of(fields)
    return str(caught.value)


def test_the_example_of_the_specification() -> None:
    """The request that opentelemetry-proto gives as its example, every field of it."""
    text = b"""
    {"resourceSpans": [{
      "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
      "scopeSpans": [{
        "scope": {"name": "my.library", "version": "1.0.0",
                  "attributes": [{"key": "my.scope.attribute", "value": {"stringValue": "some scope attribute"}}]},
        "spans": [{
          "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "EEE19B7EC3C1B174",
          "parentSpanId": "EEE19B7EC3C1B173", "name": "I'm a server span",
          "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": "1544712661000000000", "kind": 2,
          "attributes": [{"key": "my.span.attr", "value": {"stringValue": "some value"}}]}]}]}]}
    """
    resource = ExportTraceServiceRequest.FromString(transcode(text)).resource_spans[0]
    assert resource.resource.attributes[0].value.string_value == "my.service"
    assert (resource.scope_spans[0].scope.name, resource.scope_spans[0].scope.version) == ("my.library", "1.0.0")
    span = resource.scope_spans[0].spans[0]
    assert span.trace_id.hex().upper() == TRACE_ID
    assert span.span_id.hex().upper() == SPAN_ID
    assert span.parent_span_id.hex() == "eee19b7ec3c1b173"
    assert (span.name, span.kind) == ("I'm a server span", Span.SPAN_KIND_SERVER)
    assert span.start_time_unix_nano == 1_544_712_660_000_000_000
    assert span.end_time_unix_nano == 1_544_712_661_000_000_000
    assert span.attributes[0].value.string_value == "some value"


def test_ids_are_hex_in_either_case() -> None:
    """Ids are hex, not base64, and case does not matter."""
    lower = span_of({"traceId": TRACE_ID.lower(), "spanId": SPAN_ID.lower()})
    assert lower == span_of({})
    assert len(lower.trace_id) == 16


@pytest.mark.parametrize(
    "bad", ["W47/95gDgQPSabYzgT/GDA==", "5B8E", "x" * 32, "", TRACE_ID + "00", " " + TRACE_ID[1:], None]
)
def test_a_bad_id_costs_only_its_span(bad: str | None) -> None:
    """An id that cannot be read is left empty; the spans beside it are whole."""
    good = {"traceId": TRACE_ID, "spanId": SPAN_ID}
    first, second = spans_of(otlp_json_to_protobuf(document(good | {"traceId": bad}, good)))
    assert (first.trace_id, first.span_id.hex().upper()) == (b"", SPAN_ID)
    assert second.trace_id.hex().upper() == TRACE_ID


def test_a_span_of_an_unreadable_parent_is_no_root() -> None:
    """Without its parent a nested span would be billed as a request, so it loses its own id and is malformed."""
    span = span_of({"parentSpanId": "7uGbfsPBsXQ="})
    assert (span.span_id, span.parent_span_id) == (b"", b"")
    assert span_of({"parentSpanId": ""}).span_id.hex().upper() == SPAN_ID


def test_links_hold_hex_ids_too() -> None:
    """Ids are hex wherever they stand."""
    link = span_of({"links": [{"traceId": TRACE_ID, "spanId": SPAN_ID, "flags": 256}]}).links[0]
    assert (link.trace_id.hex().upper(), link.span_id.hex().upper(), link.flags) == (TRACE_ID, SPAN_ID, 256)


def test_snake_case_names_are_unknown() -> None:
    """Names are lowerCamelCase; the originals are unknown names, and those are ignored."""
    span = span_of({"parent_span_id": SPAN_ID, "end_time_unix_nano": "5", "newField": {"a": [1, {"b": None}]}})
    assert (span.parent_span_id, span.end_time_unix_nano) == (b"", 0)


def test_enums_are_numbers() -> None:
    """An enum's name is not valid; its number is, even one that is not known yet."""
    assert span_of({"kind": 2, "status": {"code": 2}}).status.code == 2
    assert span_of({"kind": 77}).kind == 77
    assert "spans[0].kind" in problem_of({"kind": "SPAN_KIND_SERVER"})


@pytest.mark.parametrize("number", [1544712660000000000, "1544712660000000000", 1544712660000000000.0])
def test_64_bit_integers_are_strings_or_numbers(number: object) -> None:
    """Both forms are read, and give the same number."""
    assert span_of({"endTimeUnixNano": number}).end_time_unix_nano == 1_544_712_660_000_000_000
    assert value_of({"intValue": number}).int_value == 1_544_712_660_000_000_000


@pytest.mark.parametrize(
    "value", [-1, "-1", 2**64, str(2**64), "1e18", "soon", 0.5, True, [], {}, "", " 5", "\u0665"]
)
def test_impossible_times_name_their_place(value: object) -> None:
    """A time that is none is bad data, and the message has its JSON path."""
    assert "resourceSpans[0].scopeSpans[0].spans[0].endTimeUnixNano: " in problem_of({"endTimeUnixNano": value})


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"attributes": [{"key": "k", "value": {"intValue": "x"}}]}, "attributes[0].value.intValue"),
        ({"attributes": [{"key": "k", "value": {"intValue": 2**63}}]}, "attributes[0].value.intValue"),
        ({"attributes": [{"key": "k", "value": {"boolValue": "true"}}]}, "attributes[0].value.boolValue"),
        ({"attributes": [{"key": "k", "value": {"doubleValue": "x"}}]}, "attributes[0].value.doubleValue"),
        ({"attributes": [{"key": "k", "value": {"doubleValue": 10**400}}]}, "attributes[0].value.doubleValue"),
        ({"attributes": [{"key": "k", "value": {"bytesValue": "*"}}]}, "attributes[0].value.bytesValue"),
        ({"attributes": [{"key": "k", "value": "x"}]}, "attributes[0].value"),
        ({"attributes": [{"key": "k", "value": {"arrayValue": {"values": [{}, 1]}}}]}, "arrayValue.values[1]"),
        ({"attributes": [{"key": "k", "value": {"intValue": 1, "stringValue": ""}}]}, "attributes[0].value"),
        ({"attributes": [{"key": 1}]}, "attributes[0].key"),
        ({"attributes": {}}, "attributes"),
        ({"name": 1}, "name"),
        ({"traceId": 1}, "traceId"),
        ({"parentSpanId": 1}, "parentSpanId"),
        ({"flags": -1}, "flags"),
        ({"status": []}, "status"),
    ],
)
def test_wrong_types_name_their_place(fields: dict[str, Any], path: str) -> None:
    """A value of the wrong type is bad data, and the message has its JSON path."""
    assert f"{path}: " in problem_of(fields)


@pytest.mark.parametrize("top", [None, [], "x", 1, {"resourceSpans": {}}, {"resourceSpans": [1]}])
def test_what_is_no_request_is_bad_data(top: object) -> None:
    """The top is an object with a list of objects."""
    with pytest.raises(InvalidData):
        otlp_json_to_protobuf(top)


def test_values_keep_their_kind() -> None:
    """Each member of AnyValue is read; present with its default is not the same as absent."""
    assert value_of({"stringValue": "é"}).string_value == "é"
    assert value_of({"boolValue": True}).bool_value is True
    assert value_of({"intValue": "-5"}).int_value == -5
    assert value_of({"doubleValue": 0.25}).double_value == 0.25
    assert value_of({"doubleValue": 3}).double_value == 3.0
    assert value_of({"doubleValue": "-Infinity"}).double_value == -math.inf
    assert math.isnan(value_of({"doubleValue": "NaN"}).double_value)
    assert value_of({"bytesValue": "AAEC"}).bytes_value == b"\0\1\2"
    assert value_of({"bytesValue": "-_8"}).bytes_value == b"\xfb\xff"
    array = value_of({"arrayValue": {"values": [{"intValue": 1}, None, {"stringValue": "a"}]}}).array_value
    assert [each.WhichOneof("value") for each in array.values] == ["int_value", None, "string_value"]
    pairs = value_of({"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": False}}]}}).kvlist_value
    assert (pairs.values[0].key, pairs.values[0].value.WhichOneof("value")) == ("a", "bool_value")
    assert value_of({"intValue": 0}).WhichOneof("value") == "int_value"
    assert value_of({"intValue": None}).WhichOneof("value") is None
    assert value_of({}).WhichOneof("value") is None


def test_null_is_absent() -> None:
    """`null` anywhere counts as not there; an element of a list stays as an empty one."""
    span = span_of({"name": None, "attributes": None, "kind": None, "status": None, "endTimeUnixNano": None})
    assert span == span_of({})
    assert len(spans_of(otlp_json_to_protobuf(document(None, {"spanId": SPAN_ID})))) == 2


def test_half_a_surrogate_pair_costs_only_itself() -> None:
    """JavaScript cuts strings in the middle of a character; that character is replaced, the request is taken."""
    assert value_of({"stringValue": "ab\ud83d"}).string_value == "ab\ufffd"
    text = json.dumps(document({"name": "\ud83d"})).encode()
    assert spans_of(transcode(text))[0].name == "\ufffd"


@pytest.mark.parametrize("level", ["array", "kvlist"])
def test_nesting_is_bounded_as_for_protobuf(level: str) -> None:
    """Values nest as deep as a protobuf parser reads them, and no deeper."""

    def nested(times: int) -> dict[str, Any]:
        value: dict[str, Any] = {"intValue": 1}
        for _ in range(times):
            inner: Any = value if level == "array" else {"key": "k", "value": value}
            value = {f"{level}Value": {"values": [inner]}}
        return value

    deepest = max(times for times in range(60) if _readable(nested(times)))
    assert value_of(nested(deepest)).WhichOneof("value") == f"{level}_value"
    assert "nested deeper" in problem_of({"attributes": [{"key": "k", "value": nested(5_000 // 20)}]})


def _readable(value: dict[str, Any]) -> bool:
    try:
        value_of(value)
    except InvalidData:
        return False
    return True


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff{}", b'{"a": "\xc3"}', b"[" * 100_000, b'{"resourceSpans": ' + b"9" * 5_000 + b"}"]
)
def test_text_that_is_no_json_is_bad_data(body: bytes) -> None:
    """Not UTF-8, not JSON, nested without end, numbers without end: bad data, never another error."""
    with pytest.raises(InvalidData):
        transcode(body)
