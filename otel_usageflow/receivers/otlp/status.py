"""The one table from what a consumer raises to what a client is told.

Source: OTLP specification, "OTLP/gRPC Response" and "OTLP/HTTP Response". Clients drop what they are told is
a permanent failure, so everything that is not certainly the client's fault is answered with a retryable status.
"""

import math
from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from otel_usageflow.errors import (
    ConsumeError,
    InvalidData,
    PermissionDenied,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

_MESSAGE_LIMIT = 1_000  # characters; gRPC sends the message in trailers, whose size is limited
_UNEXPECTED = Unavailable("an internal error; nothing was taken, send it again", retry_after=1.0)

_TABLE: dict[type[ConsumeError], tuple[grpc.StatusCode, int]] = {
    Unavailable: (grpc.StatusCode.UNAVAILABLE, 503),
    InvalidData: (grpc.StatusCode.INVALID_ARGUMENT, 400),
    TooLarge: (grpc.StatusCode.RESOURCE_EXHAUSTED, 413),
    Unauthenticated: (grpc.StatusCode.UNAUTHENTICATED, 401),
    PermissionDenied: (grpc.StatusCode.PERMISSION_DENIED, 403),
}


class Refusal(NamedTuple):
    """The answer to a request of which nothing was taken."""

    code: grpc.StatusCode
    http_status: int
    message: str
    retry_after: float | None
    """Seconds; None when the client must not try again."""

    def status(self) -> Status:
        """The same as `google.rpc.Status`, with a RetryInfo if the client may try again."""
        status = Status(code=self.code.value[0], message=self.message)
        if self.retry_after is not None:
            detail = AnyMessage()
            detail.Pack(self._retry_info(self.retry_after))
            status.details.append(detail)
        return status

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        """gRPC trailers: the Collector and Go read the first, the Python SDK only the second."""
        if self.retry_after is None:
            return ()
        return (
            ("grpc-status-details-bin", self.status().SerializeToString()),
            ("google.rpc.retryinfo-bin", self._retry_info(self.retry_after).SerializeToString()),
        )

    def retry_after_header(self) -> str | None:
        """HTTP's `Retry-After`: whole seconds, at least 1."""
        return None if self.retry_after is None else str(max(1, math.ceil(self.retry_after)))

    @staticmethod
    def _retry_info(seconds: float) -> RetryInfo:
        delay = Duration()
        delay.FromNanoseconds(round(max(0.0, seconds) * 1e9))
        return RetryInfo(retry_delay=delay)


def refusal(error: Exception) -> Refusal:
    """Look up what to answer when `error` was raised.

    An error that is not a `ConsumeError` is ours, not the client's: it is answered as `Unavailable`, without
    its text.
    """
    known = next((kind for kind in type(error).__mro__ if kind in _TABLE), None)
    if known is None:
        known, error = Unavailable, _UNEXPECTED
    code, http_status = _TABLE[known]
    retry_after = error.retry_after if isinstance(error, Unavailable) else None
    return Refusal(code, http_status, str(error)[:_MESSAGE_LIMIT], retry_after)


def is_expected(error: Exception) -> bool:
    """Whether the table has a row of its own for this error; the others are worth a line in the log."""
    return any(kind in _TABLE for kind in type(error).__mro__)
