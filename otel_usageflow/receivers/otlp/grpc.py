"""OTLP/gRPC: bytes in, an answer out; nothing is deserialized here.

Refusals go through `context.abort`, which sends the status without headers before it ("trailers-only"): Java's
exporter retries no other form. An exception that left a handler would reach the client as UNKNOWN, and the client
would drop the spans, so none does.
"""

import asyncio
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn, Self

import grpc
from grpc_health.v1 import health_pb2_grpc

from otel_usageflow.component import Authenticator, Consumer, Health
from otel_usageflow.config.types import HostPort
from otel_usageflow.errors import CannotListen
from otel_usageflow.receivers.otlp.admission import Admission
from otel_usageflow.receivers.otlp.answer import serialized
from otel_usageflow.receivers.otlp.config import Grpc
from otel_usageflow.receivers.otlp.health import HealthService
from otel_usageflow.receivers.otlp.status import is_expected, refusal
from otel_usageflow.receivers.otlp.tls import grpc_credentials
from otel_usageflow.receivers.otlp.unexpected import UnexpectedErrors

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_AHEAD = 32 * 1024
"""Bytes of a request that are taken before it is admitted. One that is admitted has as much room as it needs."""


def server_options(config: Grpc) -> list[tuple[str, int]]:
    """The channel arguments for a configuration, see gRPC's `channel_arg_names.h`."""
    options = [
        # On by default on Linux: a second process would bind the same port and take a share of the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", config.max_recv_msg_size_mib * 1024 * 1024),
        # Otherwise gRPC lets clients send 4 MiB of a request that was not admitted yet.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _AHEAD),
    ]
    if config.max_concurrent_streams is not None:
        options.append(("grpc.max_concurrent_streams", config.max_concurrent_streams))
    server, policy = config.keepalive.server_parameters, config.keepalive.enforcement_policy
    times = {
        "grpc.max_connection_idle_ms": server.max_connection_idle,
        "grpc.max_connection_age_ms": server.max_connection_age,
        "grpc.max_connection_age_grace_ms": server.max_connection_age_grace,
        "grpc.keepalive_time_ms": server.time,
        "grpc.keepalive_timeout_ms": server.timeout,
        "grpc.http2.min_recv_ping_interval_without_data_ms": policy.min_time,
    }
    options += [(name, value // timedelta(milliseconds=1)) for name, value in times.items() if value is not None]
    if policy.permit_without_stream:
        options.append(("grpc.keepalive_permit_without_calls", 1))
    return options


class GrpcServer:
    """One listening OTLP/gRPC endpoint."""

    def __init__(
        self,
        config: Grpc,
        path: str,
        *,
        consume: Consumer,
        admission: Admission,
        health: Health,
        authenticator: Authenticator | None,
        grace: float,
    ) -> None:
        self._config = config
        self._path = path
        self._consume = consume
        self._admission = admission
        self._authenticator = authenticator
        self._unexpected = UnexpectedErrors(path)
        self._grace = grace
        self._health_service = HealthService(health)
        self._server: grpc.aio.Server | None = None
        self.address = config.endpoint
        """Where it listens; the port is the bound one once it is entered."""

    async def __aenter__(self) -> Self:
        server = grpc.aio.server(options=server_options(self._config))
        server.add_generic_rpc_handlers([_Traces(self._export)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health_service, server)
        endpoint = self._config.endpoint
        tls = self._config.tls
        credentials = None if tls is None else grpc_credentials(tls, f"{self._path}::tls")
        try:
            if credentials is None:
                port = server.add_insecure_port(str(endpoint))
            else:
                port = server.add_secure_port(str(endpoint), credentials)
        except RuntimeError:
            port = 0
        if port == 0:
            await server.stop(None)
            raise CannotListen(f"{self._path}::endpoint", str(endpoint), _why_not(endpoint))
        await server.start()
        self._server = server
        self.address = HostPort(endpoint.host, port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening at once, finish the calls in flight within the grace, cut the others off."""
        if self._server is not None:
            self._health_service.stop()
            await self._server.stop(self._grace)
            self._server = None

    async def _export(self, _messages: object, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        try:
            caller = None
            if self._authenticator is not None:
                caller = self._authenticator.authenticate(_headers(context.invocation_metadata()))
            with self._admission.lease() as lease:
                lease.expect()
                payload: Any = await context.read()
                if payload is grpc.aio.EOF:
                    raise asyncio.CancelledError  # gRPC has answered already, or there is nobody to answer
                if not payload:
                    return b""  # a request without a single span
                lease.arrived(len(payload))
                consumed = await (self._consume(payload) if caller is None else self._consume(payload, caller))
            return serialized(consumed)
        except Exception as error:  # noqa: BLE001  (whatever it is, the client must keep its spans)
            await self._refuse(error, context)

    async def _refuse(self, error: Exception, context: "grpc.aio.ServicerContext[bytes, bytes]") -> NoReturn:
        if not is_expected(error):
            self._unexpected.report(error)
        answer = refusal(error)
        await context.abort(answer.code, answer.message, answer.trailers())


class _Traces(grpc.GenericRpcHandler):
    """Routes the one method there is, without a (de)serializer: the handler gets and gives bytes.

    To gRPC it is one that takes a stream, of which it reads one message: it would read that of a unary method before
    the handler is asked, however many there are.
    """

    def __init__(self, export: Any) -> None:
        self._handler: Any = grpc.stream_unary_rpc_method_handler(export)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler for a method, or None for UNIMPLEMENTED."""
        return self._handler if handler_call_details.method == EXPORT else None


def _headers(metadata: Any) -> Mapping[str, str]:
    """Text metadata as headers; several of one name are joined, as HTTP does."""
    headers: dict[str, str] = {}
    for name, value in metadata or ():
        if isinstance(value, str):
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _why_not(endpoint: HostPort) -> OSError | str:
    """The operating system's reason, which gRPC does not tell: found by trying again with a plain socket."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error
    return "gRPC could not bind to it"
