"""Reading single attributes out of OTLP's wire form, without decoding the others.

An attribute is a serialized `KeyValue`. Exporters write the key first, so a wanted key is found by comparing the
first bytes: tag, length, name. An attribute in any other legal form is parsed in full, which is slow and rare.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

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

Raw = bytes | tuple[bytes, ...]
"""An attribute as found: its `KeyValue`, or several of them that share the key and differ."""

Found = dict[str, Raw]
"""Wanted key -> attribute."""


_begins: Final = bytes.startswith
_LARGEST_LAYOUT: Final = 128
_MISSES: Final = 16


class Layout:
    """Where wanted attributes stand in spans that carry the same keys in the same order, each of them once."""

    __slots__ = ("_picks", "begins", "places")

    def __init__(self, begins: list[bytes], places: list[tuple[str, int]]) -> None:
        self.begins: Final = begins
        """What each attribute begins with."""
        self.places: Final = places
        """The wanted keys and their places."""
        self._picks: dict[frozenset[str], Callable[[Sequence[bytes]], Any]] = {}

    def find(self, raws: Sequence[bytes]) -> Found:
        """The wanted ones of these attributes."""
        return {key: raws[place] for key, place in self.places}

    def pick(self, keys: frozenset[str], raws: Sequence[bytes]) -> Any:
        """What these attributes say under these keys: equal for two spans just if they say the same, and hashable."""
        picked = self._picks.get(keys)
        if picked is None:
            places = [place for key, place in self.places if key in keys]
            picked = self._picks[keys] = itemgetter(*places) if places else _nothing
        return picked(raws)


def _nothing(_raws: Sequence[bytes]) -> tuple[()]:
    return ()


class Wanted:
    """A set of attribute keys, prepared for finding them fast.

    The cost of finding them does not depend on how many there are. An instrumentation writes its attributes in
    the same order again and again, so the keys of a span (never the values) are remembered as a layout. A span
    whose attributes begin with the keys of the layout, each at its place, needs no search.
    """

    __slots__ = ("_layouts", "_misses", "_names", "_prefixes", "keys")

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys: Final = frozenset(keys)
        self._names = {key.encode(): key for key in self.keys}
        self._prefixes = {
            bytes((0x0A, len(name))) + name: key for name, key in self._names.items() if len(name) < 128
        }
        self._layouts: dict[int, Layout] = {}
        """By the number of attributes."""
        self._misses = 0

    def find(self, attributes: Sequence[bytes]) -> Found:
        """Pick the wanted ones of these attributes, still undecoded.

        Raises:
            InvalidData: an attribute is no `KeyValue`.
        """
        raws = attributes[:]  # a list; twice as fast as list() on protobuf's repeated fields
        layout = self.layout(raws)
        return self.search(raws) if layout is None else layout.find(raws)

    def layout(self, raws: Sequence[bytes]) -> Layout | None:
        """The layout that these attributes have; None if it is not known, and they have to be searched.

        Args:
            raws: a list, or what is as fast.

        """
        layout = self._layouts.get(len(raws))
        if layout is not None and all(map(_begins, raws, layout.begins)):
            return layout
        self._misses += 1
        if layout is None or self._misses % _MISSES == 0:  # seldom, where layouts of one size take turns
            self._learn(raws)
        return None

    def search(self, raws: Sequence[bytes]) -> Found:
        """Pick the wanted ones without a layout.

        Raises:
            InvalidData: as `find`.
        """
        found: Found = {}
        for raw in raws:
            prefix = _prefix(raw)
            key = self._names.get(_parse(raw).key) if prefix is None else self._prefixes.get(prefix)
            if key in found:
                _add(found, key, raw)
            elif key is not None:
                found[key] = raw
        return found

    def _learn(self, raws: Sequence[bytes]) -> None:
        prefixes = [prefix for raw in raws if (prefix := _prefix(raw)) is not None]
        places = [(self._prefixes[prefix], at) for at, prefix in enumerate(prefixes) if prefix in self._prefixes]
        whole = len(prefixes) == len(raws) <= _LARGEST_LAYOUT
        if whole and len({key for key, _ in places}) == len(places):  # a key that comes twice has to be searched
            self._layouts[len(raws)] = Layout(prefixes, places)


def _prefix(raw: bytes) -> bytes | None:
    """Tag, length and name of the key that an attribute begins with; None if it is not in this, the usual form."""
    return raw[: raw[1] + 2] if raw[:1] == b"\x0a" and len(raw) > 1 and raw[1] < 128 else None


def _add(found: Found, key: str, raw: bytes) -> None:
    """File an attribute whose key may have been seen; the same attribute twice is one."""
    before = found.get(key)
    if before is None:
        found[key] = raw
    elif isinstance(before, tuple):
        if raw not in before:
            found[key] = (*before, raw)
    elif raw != before:
        found[key] = (before, raw)


def read(found: Found, key: str) -> Value:
    """Decode one attribute; None when it is missing or empty.

    A key that occurs several times with different values gives the list of all of them, so nobody picks one
    by accident: OTLP leaves the behaviour open.

    Raises:
        InvalidData: the attribute is no `KeyValue`.
    """
    raw = found.get(key)
    return None if raw is None else decode_found(raw)


def decode_found(raw: Raw) -> Value:
    """Decode what was found under one key; see `read`."""
    if isinstance(raw, bytes):
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
    try:
        value = raw[raw[1] + 2 :]
        size = len(value)
        # Every length below is a single byte that accounts for all that is left, so nothing else can be in there.
        if value[1] == size - 2 and value[0] == 0x12 and size < 130 and raw[1] < 128 and raw[0] == 0x0A:
            tag = value[2]
            if tag == 0x0A and value[3] == size - 4:
                return _text(value[4:])
            if tag == 0x2A and value[3] == size - 4 and value[4] == 0x0A and value[5] == size - 6:
                if value[6] == 0x0A and value[7] == size - 8:
                    return [_text(value[8:])]
            elif tag == 0x18:
                if size == 5 and value[3] > 127 > value[4] > 0:
                    return value[3] & 0x7F | value[4] << 7
                if size == 4 and value[3] < 128:
                    return value[3]
    except IndexError:
        pass
    return _plain(_parse(raw).value)


def _text(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("utf-8", "surrogateescape")


def name_of(raw: bytes) -> str:
    """The key of one serialized `KeyValue`; empty if it is none, because nobody asked for its value."""
    try:
        return KeyValue.FromString(raw).key.decode("utf-8", "replace")
    except DecodeError:
        return ""


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
            return _text(value.string_value)
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
