"""Recordings read a piece at a time: the same spans as when read as a whole, and the same errors."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from span_builder import http, payload, span

from otel_usageflow.errors import InvalidData
from otel_usageflow.model import recording
from otel_usageflow.model.recorded import recorded_request
from otel_usageflow.model.recording import recorded_pieces
from otel_usageflow.model.spans import decode_request

CAPTURES = sorted((Path(__file__).parents[1] / "captures").glob("*-*.[pj]*"))
DOCUMENT: dict[str, Any] = {
    "resourceSpans": [
        {"scopeSpans": [{"spans": [{"traceId": "01" * 16, "spanId": "02" * 8, "kind": 2, "name": 'a "{" \\'}]}]}
    ]
}
ONE = payload(span(http()))
LINE = json.dumps(DOCUMENT).encode()
PRETTY = json.dumps(DOCUMENT, indent=2).encode()


class Trickle(io.RawIOBase):
    """A stream that hands out a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = io.BytesIO(data), step

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(self._step, size) if size >= 0 else self._step)


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


def pieces(data: bytes, step: int = 1 << 20) -> list[bytes]:
    return list(recorded_pieces(Trickle(data, step)))  # type: ignore[arg-type]


@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: file.stem)
def test_captures_are_the_same_in_pieces(file: Path) -> None:
    """The pieces of a capture, one after the other, hold what the whole holds."""
    data = file.read_bytes()
    whole = recorded_request(data)
    for form in (data, gzip.compress(data)):
        read = pieces(form, 1000)
        assert decode_request(b"".join(read)) == decode_request(whole)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        ONE,
        ONE * 3,
        framed(ONE, b"", ONE),
        framed(b"", ONE),
        LINE,
        PRETTY,
        b"\n  " + LINE,
        b"\xef\xbb\xbf" + LINE,
        LINE + b"\n" + LINE + b"\r\n\n" + LINE + b"\n",
        LINE + LINE + b"\n" + PRETTY * 2,
        PRETTY + b"\n" + LINE,
        b"{}",
        gzip.compress(ONE) + gzip.compress(ONE),
        gzip.compress(LINE) + gzip.compress(b"\n" + LINE),
    ],
)
def test_every_form(data: bytes, step: int) -> None:
    """However the input arrives, its pieces are the whole."""
    assert b"".join(pieces(data, step)) == recorded_request(data)


def test_pieces_are_small() -> None:
    """Each export request is a piece by itself."""
    assert pieces(ONE * 3) == [ONE] * 3
    assert len(pieces((LINE + b"\n") * 3)) == 3


def test_protobuf_may_look_like_json() -> None:
    """A message whose first length is that of a brace begins with a line feed and a brace."""
    made = (payload(span({"k": "x" * padding}), service=None, scope="") for padding in range(200))
    data = next(one for one in made if one[:2] == b"\n{")
    assert b"".join(pieces(data)) == data
    assert b"".join(pieces(data * 2)) == data * 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (ONE + ONE[:-1], f"offset {len(ONE)}: "),
        (ONE[:10], "offset 0: "),
        (ONE + b"\x0a", f"offset {len(ONE)}: "),
        (ONE + b"\x0a\xff\xff\xff\xff\xff", f"offset {len(ONE)}: "),
        (framed(ONE) + b"\x00\x00", f"offset {len(framed(ONE))}: "),
        (b"\x89PNG\r\n", "offset 0: the input is neither"),
        (b"hello", "offset 0: the input is neither"),
        (LINE + b"\n" + LINE[:-1], "line 2, column"),
        (LINE + b"\n{'a': 1}", "line 2, column 2"),
        (LINE + b"\n[]", "line 2: cannot read the OTLP/JSON request"),
        (PRETTY + b"\n[]", f"line {PRETTY.count(10) + 2}: cannot read"),
        (LINE + b'\n{"x": "\xff"}', "line 2: the JSON text is not UTF-8"),
        (b"[" * 100_000, "line 1"),
        (gzip.compress(ONE)[:-5], "the gzip data is cut off"),
        (b"\x1f\x8b" + b"x" * 20, "the gzip data is damaged"),
        (b"\x28\xb5\x2f\xfd....", "zstd -d"),
    ],
)
def test_what_cannot_be_read_is_located(data: bytes, says: str) -> None:
    """The message says where."""
    with pytest.raises(InvalidData) as caught:
        pieces(data)
    assert says in str(caught.value)


@pytest.mark.parametrize("data", [LINE, PRETTY, ONE])
def test_a_piece_has_a_limit(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would not fit into memory is refused."""
    monkeypatch.setattr(recording, "LARGEST_PIECE", 50)
    monkeypatch.setattr(recording, "_BLOCK", 40)
    with pytest.raises(InvalidData):
        pieces(data, 30)


@given(st.binary(max_size=300))
def test_no_other_error_escapes(data: bytes) -> None:
    """Whatever the bytes are, they are spans or `InvalidData`."""
    for one in (data, b"\x0a" + data, b"{" + data, b"\x1f\x8b\x08" + data):
        try:
            read = pieces(one, 17)
        except InvalidData:
            continue
        decode_request(b"".join(read))
