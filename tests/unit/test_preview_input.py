"""What `preview` reads: every form in which OTLP is recorded, and what it says of anything else."""

import gzip
import json
from typing import Any

import pytest
from span_builder import http, payload, span

from otel_usageflow.errors import InvalidData
from otel_usageflow.model.recorded import recorded_request
from otel_usageflow.model.spans import decode_request

DOCUMENT: dict[str, Any] = {
    "resourceSpans": [
        {"scopeSpans": [{"spans": [{"traceId": "01" * 16, "spanId": "02" * 8, "kind": 2, "name": "x"}]}]}
    ]
}


def count(data: bytes) -> int:
    request = decode_request(recorded_request(data))
    return sum(len(scope.spans) for one in request.resource_spans for scope in one.scope_spans)


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


ONE = payload(span(http()))
LINE = json.dumps(DOCUMENT).encode()


@pytest.mark.parametrize(
    ("data", "spans"),
    [
        (b"", 0),
        (b"\n\n", 0),
        (ONE, 1),
        (ONE * 3, 3),
        (framed(ONE, b"", ONE), 2),
        (LINE, 1),
        (json.dumps(DOCUMENT, indent=2).encode(), 1),
        (b"\n  " + LINE, 1),
        (b"\xef\xbb\xbf" + LINE, 1),
        (LINE + b"\n" + LINE + b"\r\n\n" + LINE + b"\n", 3),
        (json.dumps(DOCUMENT, indent=2).encode() * 2, 2),
        (b"{}", 0),
        (gzip.compress(ONE), 1),
        (gzip.compress(LINE) + gzip.compress(b"\n" + LINE), 2),
    ],
)
def test_every_form_is_told_apart_by_its_contents(data: bytes, spans: int) -> None:
    """Protobuf, concatenated or framed, JSON, JSON lines, gzip: the name of the file says nothing."""
    assert count(data) == spans


def test_protobuf_may_look_like_json() -> None:
    """A message whose first length is that of a brace begins with a line feed and a brace."""
    for padding in range(200):
        data = payload(span({"k": "x" * padding}), service=None, scope="")
        if data[:2] == b"\n{":
            assert count(data) == 1
            return
    pytest.fail("no message of that length")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (ONE + ONE[:-1], f"offset {len(ONE)}: "),
        (ONE[:10], "offset 0: "),
        (b"\x89PNG\r\n", "offset 0: the input is neither"),
        (b"hello", "offset 0: the input is neither"),
        (LINE + b"\n" + LINE[:-1], "line 2, column"),
        (LINE + b"\n{'a': 1}", "line 2, column 2"),
        (LINE + b"\n[]", "line 2: cannot read the OTLP/JSON request"),
        (b'{"resourceSpans": [{"scopeSpans": 5}]}', "line 1: cannot read the OTLP/JSON request: at resourceSpans"),
        (LINE + b'\n{"x": "\xff"}', f"line 2, offset {len(LINE) + 8}: the JSON text is not UTF-8"),
        (b"[" * 100_000, "line 1"),
        (gzip.compress(ONE)[:-5], "the gzip data is cut off"),
        (b"\x1f\x8b" + b"x" * 20, "the gzip data is damaged"),
        (b"\x28\xb5\x2f\xfd....", "zstd -d"),
    ],
)
def test_what_cannot_be_read_is_located(data: bytes, says: str) -> None:
    """The message says where: line and column of JSON, offset of protobuf."""
    with pytest.raises(InvalidData) as caught:
        recorded_request(data)
    assert says in str(caught.value)
