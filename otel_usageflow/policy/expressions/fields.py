"""What an expression finds under `span`: one request, the same in every semantic convention."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from otel_usageflow.model.attributes import Found, Value
from otel_usageflow.model.spans import ended_ns
from otel_usageflow.policy import grpc, http
from otel_usageflow.policy.request import GrpcCall, HttpRequest


@dataclass(frozen=True, slots=True)
class Field:
    """One field of `span`."""

    type: str
    """Its type in CEL: string, int or double."""
    read: Callable[[HttpRequest], Value]
    """The value, or None where the request has none; then the field is absent."""
    text: str
    """What it is, in one line."""
    keys: frozenset[str] = frozenset()
    """The span attributes that it needs beyond those that are read from every request."""


def _started(request: HttpRequest) -> int | None:
    return request.span.start_time_unix_nano or None


def _duration(request: HttpRequest) -> int | None:
    start, end = request.span.start_time_unix_nano, request.span.end_time_unix_nano
    return end - start if 0 < start <= end else None


def _seconds(request: HttpRequest) -> float | None:
    duration = _duration(request)
    return None if duration is None else duration / 1_000_000_000


def _of_http(read: Callable[[Found], Value]) -> Callable[[HttpRequest], Value]:
    return lambda request: None if isinstance(request, GrpcCall) else read(request.found)


def _of_grpc(read: Callable[[Found], Value]) -> Callable[[HttpRequest], Value]:
    return lambda request: read(request.found) if isinstance(request, GrpcCall) else None


FIELDS: Final[dict[str, Field]] = {
    "method": Field("string", lambda request: request.method, "the HTTP method, in capitals"),
    "path": Field("string", _of_http(http.path), "the path as it was sent, without its query"),
    "route": Field("string", _of_http(http.route), "the framework's route, in the framework's spelling"),
    "status": Field("int", _of_http(http.status), "the HTTP status code"),
    "rpc_method": Field(
        "string", _of_grpc(grpc.full_method), "of a gRPC call, the service with its package and the method", grpc.KEYS
    ),
    "rpc_status": Field(
        "string", _of_grpc(grpc.status), "of a gRPC call, the status by its name, such as NOT_FOUND", grpc.KEYS
    ),
    "host": Field(
        "string",
        lambda request: request.host or None,
        "the host that was asked for, in lower case, without its port",
        http.HOST_KEYS,
    ),
    "service": Field("string", lambda request: request.origin.service, "service.name of the resource"),
    "scope": Field("string", lambda request: request.origin.scope, "the name of the instrumentation scope"),
    "started_ns": Field("int", _started, "when the span started, in nanoseconds since 1970"),
    "ended_ns": Field("int", lambda request: ended_ns(request.span), "when it ended, likewise"),
    "duration_ns": Field("int", _duration, "how long it took, in nanoseconds; absent if it ended before it started"),
    "duration_seconds": Field("double", _seconds, "the same in seconds"),
    "trace_id": Field("string", lambda request: request.span.trace_id.hex(), "32 hexadecimal digits"),
    "span_id": Field("string", lambda request: request.span.span_id.hex(), "16 hexadecimal digits"),
}
"""Name -> field."""
