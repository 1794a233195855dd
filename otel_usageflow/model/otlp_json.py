"""OTLP/JSON to OTLP protobuf: the one place that knows how the JSON form of a trace request differs.

The generic proto3 JSON parser is not used: it takes hex ids for base64 and turns them into other ids without a
word. Here every message is a table of its JSON names, and the wire form is written directly from it.

- Ids are hex in either case. An id that is not hex, or not of its length, is left empty, so that this one span
  is malformed and the rest of the request is not. A span whose *parent* cannot be read loses its own id: as
  a span without a parent it would be taken for a request, and billed.
- Enums are integers, names are lowerCamelCase, 64-bit integers are strings or numbers, unknown names are ignored.
- `null` is absent; as an element of a list it is an empty element, so that nothing moves up.

Source: OTLP specification, "JSON Protobuf Encoding".
"""

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

from otel_usageflow.errors import InvalidData

MAX_DEPTH = 100
"""Messages inside messages; protobuf parsers stop at the same depth."""

_Writer = Callable[[bytearray, Any, int], None]
_Fields = dict[str, _Writer]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INTEGER = re.compile(r"-?[0-9]{1,40}")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|NaN|-?Infinity")


class _Wrong(Exception):
    """A value that cannot be read; `path` is completed on the way up."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.path = ""

    def below(self, step: str) -> "_Wrong":
        joint = "." if self.path and not self.path.startswith("[") else ""
        self.path = f"{step}{joint}{self.path}"
        return self


def otlp_json_to_protobuf(document: object) -> bytes:
    """Turn a parsed OTLP/JSON trace request into a serialized `ExportTraceServiceRequest`.

    Args:
        document: what a JSON parser made of the text: dicts, lists, strings, numbers, booleans, None.

    Raises:
        InvalidData: a value has the wrong type or is out of range; the message has its JSON path.
    """
    try:
        return bytes(_body(_REQUEST, document, 1))
    except _Wrong as wrong:
        where = f"at {wrong.path}: " if wrong.path else ""
        raise InvalidData(f"cannot read the OTLP/JSON request: {where}{wrong}") from None


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _body(fields: Mapping[str, _Writer], value: object, depth: int) -> bytearray:
    """The fields of one message, without tag and length."""
    if type(value) is not dict:
        raise _Wrong("must be an object")
    if depth > MAX_DEPTH:
        raise _Wrong(f"nested deeper than {MAX_DEPTH} levels")
    out = bytearray()
    for name, item in value.items():
        if item is None:
            continue
        write = fields.get(name)
        if write is None:
            continue
        try:
            write(out, item, depth)
        except _Wrong as wrong:
            raise wrong.below(name) from None
    return out


def _integer(value: object, low: int, high: int) -> int:
    """An integer as proto3 JSON writes it: a number without a fraction, or a string of digits."""
    if type(value) is str and _INTEGER.fullmatch(value):
        number = int(value)
    elif type(value) is int:
        number = value
    elif type(value) is float and value.is_integer():
        number = int(value)
    else:
        raise _Wrong("must be an integer")
    if not low <= number <= high:
        raise _Wrong(f"must be between {low} and {high}")
    return number


def _message(number: int, fields: _Fields) -> _Writer:
    tag = _tag(number, _BYTES)

    def write(out: bytearray, value: object, depth: int) -> None:
        body = _body(fields, value, depth + 1)
        out += tag
        out += _varint(len(body))
        out += body

    return write


def _list(item: _Writer) -> _Writer:
    def write(out: bytearray, value: object, depth: int) -> None:
        if type(value) is not list:
            raise _Wrong("must be a list")
        for index, element in enumerate(value):
            try:
                item(out, {} if element is None else element, depth)
            except _Wrong as wrong:
                raise wrong.below(f"[{index}]") from None

    return write


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair: JavaScript makes these when it cuts a string to a length. One cut string
        # must not cost the whole request.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _string(number: int) -> _Writer:
    tag = _tag(number, _BYTES)

    def write(out: bytearray, value: object, _depth: int) -> None:
        if type(value) is not str:
            raise _Wrong("must be a string")
        raw = _utf8(value)
        out += tag
        out += _varint(len(raw))
        out += raw

    return write


def _base64(number: int) -> _Writer:
    tag = _tag(number, _BYTES)

    def write(out: bytearray, value: object, _depth: int) -> None:
        if type(value) is not str:
            raise _Wrong("must be a string")
        text = value.rstrip("=").replace("-", "+").replace("_", "/")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise _Wrong("must be base64") from None
        out += tag
        out += _varint(len(raw))
        out += raw

    return write


def _parse_id(value: object, size: int) -> bytes:
    """The id, or nothing if the text is not the hex form of `size` bytes."""
    if type(value) is not str:
        raise _Wrong("must be a string of hex digits")
    if len(value) != 2 * size:
        return b""
    try:
        raw = bytes.fromhex(value)
    except ValueError:
        return b""
    return raw if len(raw) == size else b""


def _hex_id(number: int, size: int) -> _Writer:
    tag = _tag(number, _BYTES) + _varint(size)

    def write(out: bytearray, value: object, _depth: int) -> None:
        if raw := _parse_id(value, size):
            out += tag
            out += raw

    return write


def _fixed64(number: int) -> _Writer:
    tag = _tag(number, _FIXED64)
    pack = struct.Struct("<Q").pack

    def write(out: bytearray, value: object, _depth: int) -> None:
        out += tag
        out += pack(_integer(value, 0, 2**64 - 1))

    return write


def _fixed32(number: int) -> _Writer:
    tag = _tag(number, _FIXED32)
    pack = struct.Struct("<I").pack

    def write(out: bytearray, value: object, _depth: int) -> None:
        out += tag
        out += pack(_integer(value, 0, 2**32 - 1))

    return write


def _uint32(number: int) -> _Writer:
    tag = _tag(number, _VARINT)

    def write(out: bytearray, value: object, _depth: int) -> None:
        out += tag
        out += _varint(_integer(value, 0, 2**32 - 1))

    return write


def _int64(number: int) -> _Writer:
    tag = _tag(number, _VARINT)

    def write(out: bytearray, value: object, _depth: int) -> None:
        out += tag
        out += _varint(_integer(value, -(2**63), 2**63 - 1) & 0xFFFF_FFFF_FFFF_FFFF)

    return write


def _enum(number: int) -> _Writer:
    tag = _tag(number, _VARINT)

    def write(out: bytearray, value: object, _depth: int) -> None:
        if type(value) is str:
            raise _Wrong("must be the enum's number, not a name")
        out += tag
        out += _varint(_integer(value, -(2**31), 2**31 - 1) & 0xFFFF_FFFF_FFFF_FFFF)

    return write


def _bool(number: int) -> _Writer:
    tag = _tag(number, _VARINT)

    def write(out: bytearray, value: object, _depth: int) -> None:
        if type(value) is not bool:
            raise _Wrong("must be true or false")
        out += tag
        out.append(value)

    return write


def _double(number: int) -> _Writer:
    tag = _tag(number, _FIXED64)
    pack = struct.Struct("<d").pack

    def write(out: bytearray, value: object, _depth: int) -> None:
        if type(value) not in (int, float) and not (type(value) is str and _DECIMAL.fullmatch(value)):
            raise _Wrong("must be a number")
        try:
            real = float(value)  # type: ignore[arg-type]  # narrowed by the line above
        except OverflowError:
            real = math.inf
        if math.isinf(real) and not (type(value) is float or value in ("Infinity", "-Infinity")):
            raise _Wrong("is too large for a double")
        out += tag
        out += pack(real)

    return write


def _any_value(number: int) -> _Writer:
    tag = _tag(number, _BYTES)

    def write(out: bytearray, value: object, depth: int) -> None:
        body = _body(_ANY_VALUE, value, depth + 1)
        assert type(value) is dict
        if len(value) > 1 and sum(name in _ANY_VALUE and item is not None for name, item in value.items()) > 1:
            raise _Wrong("has more than one value")
        out += tag
        out += _varint(len(body))
        out += body

    return write


def _span(number: int) -> _Writer:
    tag = _tag(number, _BYTES)

    def write(out: bytearray, value: object, depth: int) -> None:
        fields = _SPAN
        if type(value) is dict and (parent := value.get("parentSpanId")):
            try:
                known = _parse_id(parent, 8)
            except _Wrong as wrong:
                raise wrong.below("parentSpanId") from None
            if not known:
                fields = _SPAN_OF_UNKNOWN_PARENT
        body = _body(fields, value, depth + 1)
        out += tag
        out += _varint(len(body))
        out += body

    return write


_ANY_VALUE: _Fields = {}
_KEY_VALUE: _Fields = {"key": _string(1), "value": _any_value(2)}
_ANY_VALUE |= {
    "stringValue": _string(1),
    "boolValue": _bool(2),
    "intValue": _int64(3),
    "doubleValue": _double(4),
    "arrayValue": _message(5, {"values": _list(_any_value(1))}),
    "kvlistValue": _message(6, {"values": _list(_message(1, _KEY_VALUE))}),
    "bytesValue": _base64(7),
}


def _attributes(number: int) -> _Writer:
    return _list(_message(number, _KEY_VALUE))


_EVENT: _Fields = {
    "timeUnixNano": _fixed64(1),
    "name": _string(2),
    "attributes": _attributes(3),
    "droppedAttributesCount": _uint32(4),
}
_LINK: _Fields = {
    "traceId": _hex_id(1, 16),
    "spanId": _hex_id(2, 8),
    "traceState": _string(3),
    "attributes": _attributes(4),
    "droppedAttributesCount": _uint32(5),
    "flags": _fixed32(6),
}
_SPAN: _Fields = {
    "traceId": _hex_id(1, 16),
    "spanId": _hex_id(2, 8),
    "traceState": _string(3),
    "parentSpanId": _hex_id(4, 8),
    "name": _string(5),
    "kind": _enum(6),
    "startTimeUnixNano": _fixed64(7),
    "endTimeUnixNano": _fixed64(8),
    "attributes": _attributes(9),
    "droppedAttributesCount": _uint32(10),
    "events": _list(_message(11, _EVENT)),
    "droppedEventsCount": _uint32(12),
    "links": _list(_message(13, _LINK)),
    "droppedLinksCount": _uint32(14),
    "status": _message(15, {"message": _string(2), "code": _enum(3)}),
    "flags": _fixed32(16),
}
_SPAN_OF_UNKNOWN_PARENT = {name: write for name, write in _SPAN.items() if name != "spanId"}
_SCOPE: _Fields = {
    "name": _string(1),
    "version": _string(2),
    "attributes": _attributes(3),
    "droppedAttributesCount": _uint32(4),
}
_SCOPE_SPANS: _Fields = {"scope": _message(1, _SCOPE), "spans": _list(_span(2)), "schemaUrl": _string(3)}
_RESOURCE: _Fields = {"attributes": _attributes(1), "droppedAttributesCount": _uint32(2)}
_RESOURCE_SPANS: _Fields = {
    "resource": _message(1, _RESOURCE),
    "scopeSpans": _list(_message(2, _SCOPE_SPANS)),
    "schemaUrl": _string(3),
}
_REQUEST: _Fields = {"resourceSpans": _list(_message(1, _RESOURCE_SPANS))}
