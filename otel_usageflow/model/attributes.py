"""Reading single attributes out of OTLP's wire form, without decoding the others.

An attribute is a serialized `KeyValue`. Exporters write the key first, so a wanted key is found by comparing the
first bytes: tag, length, name. An attribute in any other legal form is parsed in full, which is slow and rare.
"""

from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError

from otel_usageflow.errors import InvalidData
from otel_usageflow.proto.spans.v1.spans_pb2 import AnyValue, ArrayValue, KeyValue


class Opaque:
    """A value that has no plain form: a map, a list in a list, a reference that traces do not use."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "OPAQUE"


OPAQUE: Final = Opaque()

Scalar = str | int | float | bool | bytes | Opaque | None
Value = Scalar | list[Scalar]
"""A decoded attribute value. Broken UTF-8 in text is kept as surrogate escapes; None is OTLP's empty value."""

Raw = bytes | list[bytes]
"""An attribute as found: its `KeyValue`, or several of them that share the key and differ."""

Found = dict[str, Raw]
"""Wanted key -> attribute."""


class Wanted:
    """A set of attribute keys, prepared for finding them fast.

    The cost of finding them does not depend on how many there are.
    """

    __slots__ = ("_heads", "_names", "keys")

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys: Final = frozenset(keys)
        self._names = {key.encode(): key for key in self.keys}
        # For every usual head (tag 0x0a and a length below 128): prefix of the attribute -> key, for the keys of
        # that length. What has another head is not in the usual form.
        self._heads: dict[bytes, dict[bytes, str]] = {bytes((0x0A, size)): {} for size in range(128)}
        for name, key in self._names.items():
            if len(name) < 128:
                head = bytes((0x0A, len(name)))
                self._heads[head][head + name] = key

    def find(self, attributes: Iterable[bytes]) -> Found:
        """Pick the wanted ones of these attributes, still undecoded.

        Raises:
            InvalidData: an attribute is no `KeyValue`.
        """
        found: Found = {}
        heads = self._heads
        for raw in attributes:
            try:
                names = heads[raw[:2]]
            except KeyError:
                self._find_unusual(raw, found)
                continue
            if names and (key := names.get(raw[: raw[1] + 2])) is not None:
                if key in found:
                    _add(found, key, raw)
                else:
                    found[key] = raw
        return found

    def _find_unusual(self, raw: bytes, found: Found) -> None:
        key = self._names.get(_parse(raw).key)
        if key is not None:
            _add(found, key, raw)


def _add(found: Found, key: str, raw: bytes) -> None:
    """File an attribute whose key may have been seen; the same attribute twice is one."""
    before = found.get(key)
    if before is None:
        found[key] = raw
    elif isinstance(before, list):
        if raw not in before:
            before.append(raw)
    elif raw != before:
        found[key] = [before, raw]


def read(found: Found, key: str) -> Value:
    """Decode one attribute; None when it is missing or empty.

    A key that occurs several times with different values gives the list of all of them, so nobody picks one
    by accident: OTLP leaves the behaviour open.

    Raises:
        InvalidData: the attribute is no `KeyValue`.
    """
    raw = found.get(key)
    if raw is None:
        return None
    if not isinstance(raw, list):
        return decode(raw)
    values: list[Scalar] = []
    for one in raw:
        value = decode(one)
        values.extend(value if isinstance(value, list) else [value])
    return values


def decode(raw: bytes) -> Value:
    """Decode the value of one serialized `KeyValue`.

    Raises:
        InvalidData: it is none.
    """
    # Every length below is a single byte that accounts for all that is left, so nothing else can be in there.
    if raw[:1] == b"\x0a" and raw[1] < 128:
        at = raw[1] + 2
        rest = len(raw) - at
        if 4 <= rest < 130 and raw[at] == 0x12 and raw[at + 1] == rest - 2:
            tag, size = raw[at + 2], raw[at + 3]
            if tag == 0x0A and size == rest - 4:
                return raw[at + 4 :].decode("utf-8", "surrogateescape")
            if tag == 0x18 and rest == 4 and size < 128:
                return size
            if tag == 0x18 and rest == 5 and size >= 128 and raw[at + 4] < 128:
                return (size & 0x7F) | raw[at + 4] << 7
            if (
                tag == 0x2A
                and size == rest - 4
                and rest >= 8
                and raw[at + 4] == 0x0A
                and raw[at + 5] == rest - 6
                and raw[at + 6] == 0x0A
                and raw[at + 7] == rest - 8
            ):
                return [raw[at + 8 :].decode("utf-8", "surrogateescape")]
    return _plain(_parse(raw).value)


def name_of(raw: bytes) -> str:
    """The key of one serialized `KeyValue`.

    Raises:
        InvalidData: it is none.
    """
    return _parse(raw).key.decode("utf-8", "replace")


def _parse(raw: bytes) -> KeyValue:
    try:
        return KeyValue.FromString(raw)
    except DecodeError:
        raise InvalidData("an attribute is not a valid protobuf KeyValue") from None


def _plain(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        try:
            elements = ArrayValue.FromString(value.array_value).values
        except DecodeError:
            raise InvalidData("an attribute holds no valid protobuf ArrayValue") from None
        return [_scalar(element, element.WhichOneof("value")) for element in elements]
    return _scalar(value, kind)


def _scalar(value: AnyValue, kind: str | None) -> Scalar:
    match kind:
        case "string_value":
            return value.string_value.decode("utf-8", "surrogateescape")
        case "int_value":
            return value.int_value
        case "bool_value":
            return value.bool_value
        case "double_value":
            return value.double_value
        case "bytes_value":
            return value.bytes_value
        case None:
            return None
        case _:
            return OPAQUE
