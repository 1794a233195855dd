"""Recorded spans, a piece at a time: the same forms as `recorded`, for files that do not fit into memory."""

import gzip
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, cast

from otel_usageflow.errors import InvalidData
from otel_usageflow.model.recorded import json_requests
from otel_usageflow.model.spans import decode_request

LARGEST_PIECE: Final = 256 * 1024 * 1024
"""Bytes of one JSON document, or of the spans of one resource in one request; what is larger is refused."""

_BLOCK: Final = 256 * 1024
_SPACE: Final = b" \t\r\n"
_TAG: Final = 0x0A
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')


class _Ahead:
    """A stream that can be looked into before it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._block = b""
        self._next = 0
        """Where in the block the next byte stands."""
        self._before = 0

    @property
    def at(self) -> int:
        """How much was taken."""
        return self._before + self._next

    def peek(self, size: int) -> bytes:
        """The next bytes; fewer only at the end."""
        self._fill(size)
        return self._block[self._next : self._next + size]

    def take(self, size: int) -> bytes:
        """Read so many bytes; fewer only at the end."""
        taken = self.peek(size)
        self._next += len(taken)
        return taken

    def line(self) -> bytes:
        """Read to the end of the line; empty at the end of the stream."""
        size = 0
        while True:
            held = len(self._block) - self._next
            end = self._block.find(b"\n", self._next + size)
            if end >= 0:
                return self.take(end + 1 - self._next)
            size = held
            self._fill(max(2 * size, _BLOCK))
            if len(self._block) - self._next == size:
                return self.take(size)
            if size > LARGEST_PIECE:
                raise InvalidData(f"offset {self.at}: a line is longer than {LARGEST_PIECE} bytes")

    def _fill(self, size: int) -> None:
        missing = size - (len(self._block) - self._next)
        if missing <= 0:
            return
        parts = [self._block[self._next :]]
        while missing > 0 and (more := self._stream.read(max(missing, _BLOCK))):
            parts.append(more)
            missing -= len(more)
        self._before += self._next
        self._block, self._next = b"".join(parts), 0


def recorded_pieces(stream: BinaryIO) -> Iterator[bytes]:
    """Read a recording as serialized `ExportTraceServiceRequest`s, small ones, in order.

    Forms are told apart by their contents, as in `recorded_request`; only one piece is in memory at a time.

    Raises:
        InvalidData: it is none of them, or cut off; the message says where, by line or offset.
    """
    source = _Ahead(stream)
    if source.peek(2) == b"\x1f\x8b":
        yield from _unpacked(source)
        return
    if source.peek(4) == b"\x28\xb5\x2f\xfd":
        raise InvalidData("the input is compressed with zstd; unpack it first (zstd -d)")
    yield from _told_apart(source)


def _unpacked(source: _Ahead) -> Iterator[bytes]:
    class Rest:
        def read(self, size: int = -1) -> bytes:
            return source.take(size if size >= 0 else _BLOCK)

    with gzip.GzipFile(fileobj=cast("BinaryIO", Rest())) as unpacked:
        try:
            yield from _told_apart(_Ahead(cast("BinaryIO", unpacked)))
        except EOFError:
            raise InvalidData("the gzip data is cut off at its end") from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise InvalidData(f"the gzip data is damaged: {error}") from None


def _told_apart(source: _Ahead) -> Iterator[bytes]:
    start = source.peek(_BLOCK)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)
    if not text and len(start) < _BLOCK:
        return iter(())
    if text[:1] in (b"{", b"[") and not _is_protobuf(start):
        return _json(source)
    if start[0] == _TAG:
        return _protobuf(source)
    if 4 + int.from_bytes(start[:4], "big") <= LARGEST_PIECE and start[4:5] in (b"\x0a", b"", b"\x00"):
        return _framed(source)
    raise InvalidData(
        "offset 0: the input is neither OTLP protobuf nor OTLP/JSON; it has to hold trace export requests"
    )


def _is_protobuf(start: bytes) -> bool:
    """Whether what looks like a line feed and a brace is a message of the brace's length, 123 bytes."""
    end = 2 + ord("{")
    if start[0] != _TAG or start[1] != ord("{") or start[end : end + 1] not in (b"", b"\x0a"):
        return False
    try:
        decode_request(start[:end])
    except InvalidData:
        return False
    return True


def _protobuf(source: _Ahead) -> Iterator[bytes]:
    while head := source.peek(6):
        size, used = 0, 1
        for byte in head[1:]:
            size |= (byte & 0x7F) << 7 * (used - 1)
            used += 1
            if byte < 0x80:
                break
        if head[0] != _TAG or head[used - 1] >= 0x80 or used == 1 or size > LARGEST_PIECE:
            raise _broken(source.at)
        yield _checked(source, used + size)


def _framed(source: _Ahead) -> Iterator[bytes]:
    while head := source.peek(4):
        size = int.from_bytes(head, "big")
        if len(head) < 4 or size > LARGEST_PIECE:
            raise _broken(source.at)
        source.take(4)
        if size:
            yield _checked(source, size)


def _checked(source: _Ahead, size: int) -> bytes:
    at = source.at
    piece = source.take(size)
    if len(piece) < size:
        raise _broken(at)
    try:
        decode_request(piece)
    except InvalidData:
        raise _broken(at) from None
    return piece


def _broken(at: int) -> InvalidData:
    return InvalidData(f"offset {at}: the input is not a valid protobuf ExportTraceServiceRequest, or is cut off")


def _json(source: _Ahead) -> Iterator[bytes]:
    """One document a line where that is how it is written; else as many lines as a document takes."""
    number = 0
    while line := source.line():
        number += 1
        first, depth, lines, size = number, _depth(line), [line], len(line)
        while depth > 0 and (line := source.line()):
            number += 1
            depth += _depth(line)
            lines.append(line)
            size += len(line)
            if size > LARGEST_PIECE:
                raise InvalidData(f"line {first}: the JSON document is larger than {LARGEST_PIECE} bytes")
        data = b"".join(lines)
        try:
            text = data.decode("utf-8-sig" if first == 1 else "utf-8")
        except UnicodeDecodeError as error:
            at = first + data.count(b"\n", 0, error.start)
            raise InvalidData(f"line {at}: the JSON text is not UTF-8") from None
        yield from json_requests(text, first)


def _depth(line: bytes) -> int:
    """How many brackets a line opens more than it closes; a JSON string never goes beyond its line."""
    rest = _STRING.sub(b"", line)
    return rest.count(b"{") + rest.count(b"[") - rest.count(b"}") - rest.count(b"]")
