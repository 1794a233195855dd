"""Reading an export request: resources, scopes and spans, of which only what billing needs is decoded."""

from collections.abc import Sequence
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from otel_usageflow.errors import InvalidData
from otel_usageflow.model.attributes import Found
from otel_usageflow.proto.spans.v1.spans_pb2 import Request

SERVER: Final = 2
"""`SpanKind` of the side of a call that serves it."""
PARENT_KNOWN: Final = 0x100
"""Bit of `Span.flags`: whether the parent is remote is known."""
PARENT_REMOTE: Final = 0x200
"""Bit of `Span.flags`: the parent is in another process."""
LATEST_NS: Final = 2**63 - 1
"""Times on the wire are unsigned; what is beyond this is cut to it, the same way every time."""

_NO_SPAN = bytes(8)
_NO_TRACE = bytes(16)


class Span(Protocol):
    """The fields of a span that billing reads, under OTLP's names. Numbers are unsigned, as on the wire."""

    @property
    def trace_id(self) -> bytes: ...
    @property
    def span_id(self) -> bytes: ...
    @property
    def trace_state(self) -> bytes: ...
    @property
    def parent_span_id(self) -> bytes: ...
    @property
    def kind(self) -> int: ...
    @property
    def start_time_unix_nano(self) -> int: ...
    @property
    def end_time_unix_nano(self) -> int: ...
    @property
    def attributes(self) -> Sequence[bytes]:
        """All of them, each a serialized `KeyValue`."""

    @property
    def dropped_attributes_count(self) -> int: ...
    @property
    def flags(self) -> int: ...


Said = bytes | tuple[bytes, ...]
"""What a span or a resource says where it matters; see `ReadSpan.said`."""


class ReadSpan(Span, Protocol):
    """A span of which the wanted attributes are known; see `reader.py`."""

    @property
    def valid(self) -> bool:
        """Whether its ids identify it, and its parent's has the size of one or is missing."""

    def said(self, keys: frozenset[str], /) -> Said | None:
        """What it says under these keys, which are wanted ones; None where only `find` tells.

        Two spans that were read by one reader and say the same bytes have the same attributes under these keys.
        """

    def find(self) -> Found:
        """The wanted attributes.

        Raises:
            InvalidData: one is no `KeyValue`.
        """


def decode_request(payload: bytes) -> Request:
    """Parse one serialized `ExportTraceServiceRequest`, or several that are concatenated.

    Raises:
        InvalidData: it is none.
    """
    try:
        return Request.FromString(payload)
    except DecodeError:
        raise InvalidData("the request is not a valid protobuf ExportTraceServiceRequest") from None


def has_valid_ids(trace_id: bytes, span_id: bytes) -> bool:
    """Whether the ids identify a span: 16 and 8 bytes, not all zero (W3C Trace Context)."""
    return len(trace_id) == 16 and len(span_id) == 8 and trace_id != _NO_TRACE and span_id != _NO_SPAN


def parent_of(span: Span) -> bytes:
    """The parent's span id, or empty for a root; one of zeros, of a wrong size, or the span's own is none."""
    parent = span.parent_span_id
    return parent if len(parent) == 8 and parent != _NO_SPAN and parent != span.span_id else b""


def ended_ns(span: Span) -> int:
    """When the span ended, in nanoseconds since 1970."""
    return min(span.end_time_unix_nano, LATEST_NS)
