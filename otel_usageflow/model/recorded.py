"""Recorded spans, as files hold them: OTLP as protobuf or as JSON, one request or many."""

import json
import zlib
from collections.abc import Iterator
from typing import Final

from otel_usageflow.errors import InvalidData
from otel_usageflow.model.otlp_json import otlp_json_to_protobuf
from otel_usageflow.model.spans import decode_request

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_BOM: Final = b"\xef\xbb\xbf"
_SPACE: Final = b" \t\r\n"
_RESOURCE_SPANS: Final = 0x0A
"""The only tag that an `ExportTraceServiceRequest` begins with; as a character it is a line feed."""


def recorded_request(data: bytes) -> bytes:
    """Read a recording into one serialized `ExportTraceServiceRequest` that holds all of its spans.

    Protobuf (one request, several concatenated, or each after its length in four bytes, as the Collector's file
    exporter writes them), OTLP/JSON and JSON lines are told apart by their contents; gzip is unpacked.

    Raises:
        InvalidData: it is none of these; the message says where, by line or offset.
    """
    if data.startswith(_GZIP):
        data = _unpacked(data)
    if data.startswith(_ZSTD):
        raise InvalidData("the input is compressed with zstd; unpack it first (zstd -d)")
    if not data.strip(_SPACE):
        return b""
    if data.removeprefix(_BOM).lstrip(_SPACE)[:1] in (b"{", b"["):
        return _from_json_or_protobuf(data)
    if data[0] == _RESOURCE_SPANS:
        return _from_protobuf(data)
    if (messages := _without_lengths(data)) is not None:
        return _from_protobuf(messages)
    raise InvalidData(
        "offset 0: the input is neither OTLP protobuf nor OTLP/JSON; it has to hold trace export requests"
    )


def _from_json_or_protobuf(data: bytes) -> bytes:
    """Protobuf may begin with a line feed and a brace, too: then it is no JSON further on."""
    try:
        return _from_json(data)
    except InvalidData:
        if data[0] != _RESOURCE_SPANS or _is_text(data):
            raise
    return _from_protobuf(data)


def _is_text(data: bytes) -> bool:
    try:
        return "\x00" not in data.decode()
    except UnicodeDecodeError:
        return False


def _unpacked(data: bytes) -> bytes:
    """Unpack all members of a gzip file."""
    parts: list[bytes] = []
    while data:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            parts.append(unpacker.decompress(data))
        except zlib.error as error:
            raise InvalidData(f"the gzip data is damaged: {error}") from None
        if not unpacker.eof:
            raise InvalidData("the gzip data is cut off at its end")
        data = unpacker.unused_data.lstrip(b"\x00")
    return b"".join(parts)


def _from_protobuf(data: bytes) -> bytes:
    try:
        decode_request(data)
    except InvalidData:
        at = _first_broken(data)
        where = f"offset {at}: " if at is not None else ""
        raise InvalidData(
            f"{where}the input is not a valid protobuf ExportTraceServiceRequest, or is cut off"
        ) from None
    return data


def _first_broken(data: bytes) -> int | None:
    """The offset of the first `ResourceSpans` that cannot be read."""
    at = 0
    while at < len(data):
        size, after = _varint(data, at + 1)
        end = after + size
        if data[at] != _RESOURCE_SPANS or end > len(data) or after == 0:
            return at
        try:
            decode_request(data[at:end])
        except InvalidData:
            return at
        at = end
    return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A length and the offset after it; an offset of 0 if there is none."""
    value = 0
    for index in range(at, min(at + 5, len(data))):
        value |= (data[index] & 0x7F) << 7 * (index - at)
        if data[index] < 0x80:
            return value, index + 1
    return 0, 0


def _without_lengths(data: bytes) -> bytes | None:
    """Take out the four-byte lengths before the messages; None if that is not how the data is built."""
    messages: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if len(data) - at < 4 or end > len(data):
            return None
        messages.append(data[at + 4 : end])
        at = end
    return b"".join(messages) if all(message[:1] in (b"", b"\x0a") for message in messages) else None


def _from_json(data: bytes) -> bytes:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidData(f"line {line}, offset {error.start}: the JSON text is not UTF-8") from None
    return b"".join(json_requests(text))


def json_requests(text: str, first_line: int = 1) -> Iterator[bytes]:
    """Read OTLP/JSON, one document or several, into serialized requests.

    Args:
        text: the documents, with nothing but white space between them.
        first_line: the number of the text's first line, for messages.

    Raises:
        InvalidData: it is none; the message names the line.
    """
    decoder = json.JSONDecoder()
    at, line, counted = 0, first_line, 0
    while (at := _skip_space(text, at)) < len(text):
        line += text.count("\n", counted, at)
        counted = at
        try:
            document, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno + first_line - 1}, column {error.colno}"
            raise InvalidData(f"{where}: the JSON is broken: {error.msg}") from None
        except RecursionError:
            raise InvalidData(f"line {line}: the JSON is nested too deep") from None
        except ValueError as error:
            raise InvalidData(f"line {line}: the JSON cannot be read: {error}") from None
        try:
            yield otlp_json_to_protobuf(document)
        except InvalidData as error:
            raise InvalidData(f"line {line}: {error}") from None


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
