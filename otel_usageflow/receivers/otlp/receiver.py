"""The receiver `otlp`: its transports, one budget for both, started and stopped together."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Self

from otel_usageflow.component import Authenticator, Context
from otel_usageflow.config.types import HostPort
from otel_usageflow.errors import StartError
from otel_usageflow.receivers.otlp.admission import Admission
from otel_usageflow.receivers.otlp.config import Auth, OtlpConfig
from otel_usageflow.receivers.otlp.grpc import GrpcServer
from otel_usageflow.receivers.otlp.http import TraceEndpoint
from otel_usageflow.receivers.otlp.http_server import HttpServer

GRACE = 5.0
"""Seconds for calls in flight to finish when the receiver is left."""


class OtlpReceiver:
    """Takes OTLP traces over gRPC and HTTP, and answers once the consumer has returned.

    It opens its ports when it is entered.

    Raises on entering:
        StartError: a port, a TLS file or an authenticator cannot be used.
    """

    def __init__(self, config: OtlpConfig, context: Context, *, grace: float = GRACE) -> None:
        self._config = config
        self._context = context
        self._grace = grace
        self._servers: list[GrpcServer | HttpServer] = []
        self.grpc_address: HostPort | None = None
        """Where gRPC listens, with the bound port; None when it is off or not started."""
        self.http_address: HostPort | None = None
        """Where HTTP listens, likewise."""

    async def __aenter__(self) -> Self:
        consume = self._context.consume
        assert consume is not None, "the service gives every receiver a consumer"
        admission = Admission(self._config.admission.request_limit_mib * 1024 * 1024)
        protocols = self._config.protocols
        async with AsyncExitStack() as started:
            if protocols.grpc is not None:
                path = f"receivers::{self._context.id}::protocols::grpc"
                grpc_server = GrpcServer(
                    protocols.grpc,
                    path,
                    consume=consume,
                    admission=admission,
                    health=self._context.health,
                    authenticator=self._authenticator(protocols.grpc.auth, path),
                    grace=self._grace,
                )
                await started.enter_async_context(grpc_server)
                self._servers.append(grpc_server)
                self.grpc_address = grpc_server.address
            if protocols.http is not None:
                path = f"receivers::{self._context.id}::protocols::http"
                traces = TraceEndpoint(
                    protocols.http,
                    path,
                    consume=consume,
                    admission=admission,
                    authenticator=self._authenticator(protocols.http.auth, path),
                )
                http_server = HttpServer(protocols.http, path, traces, grace=self._grace)
                await started.enter_async_context(http_server)
                self._servers.append(http_server)
                self.http_address = http_server.address
            started.pop_all()  # all of them are up; from here on they are stopped together
        return self

    async def __aexit__(self, *error: object) -> None:
        servers, self._servers = self._servers, []
        self.grpc_address = self.http_address = None
        await asyncio.gather(*(server.__aexit__(*error) for server in servers))

    def _authenticator(self, auth: Auth | None, path: str) -> Authenticator | None:
        if auth is None:
            return None
        extension: Any = self._context.extensions.get(auth.authenticator)
        if not hasattr(extension, "authenticate"):
            raise StartError(
                f"{path}::auth::authenticator: {auth.authenticator} is no authenticator of this service; "
                "list an extension such as bearertokenauth under service::extensions"
            )
        authenticator: Authenticator = extension
        return authenticator
