"""grpc.health.v1: SERVING exactly when nobody has a problem; NOT_SERVING also while stopping."""

import asyncio
import contextlib
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from otel_usageflow.component import Health

_POLL = 1.0  # seconds between two looks for those who watch; `Check` looks at once
_KNOWN = frozenset({"", "opentelemetry.proto.collector.trace.v1.TraceService"})


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package has no types
    """What a Kubernetes `grpc:` probe or a load balancer asks."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Answer NOT_SERVING from now on, and end what watches."""
        self._stopping.set()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  (gRPC's name)
        """The state now."""
        if request.service not in _KNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """The state now, and again whenever it changes."""
        last: int | None = None
        while True:
            stopping = self._stopping.is_set()
            status = self._status(request.service)
            if status != last:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                last = status
            if stopping:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _POLL)

    def _status(self, service: str) -> int:
        response = health_pb2.HealthCheckResponse
        if service not in _KNOWN:
            return int(response.SERVICE_UNKNOWN)
        if self._stopping.is_set() or self._health.problems():
            return int(response.NOT_SERVING)
        return int(response.SERVING)
