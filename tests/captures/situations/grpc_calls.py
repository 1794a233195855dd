"""A gRPC server under OpenTelemetry's instrumentation, and some calls: answered, refused, broken, streamed."""

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import suppress
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import GrpcInstrumentorServer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


class KeepAccount(grpc.ServerInterceptor):
    """The instrumentation captures no metadata, so this does; and it names the status of a call that broke."""

    def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        account = [value for key, value in details.invocation_metadata if key == "x-account-id"]

        def call(request: bytes, context: grpc.ServicerContext) -> Any:
            span = trace.get_current_span()
            if account:
                span.set_attribute("rpc.request.metadata.x-account-id", account)
            try:
                return handler.unary_unary(request, context)
            except RuntimeError:
                if request == b"broken, and told":
                    span.set_attribute("rpc.grpc.status_code", grpc.StatusCode.UNKNOWN.value[0])
                raise

        return grpc.unary_unary_rpc_method_handler(call)


class Orders(grpc.GenericRpcHandler):
    """The service `shop.Orders`, in bytes, so that no generated code is needed."""

    def service(self, details: Any) -> Any:
        if details.method == "/shop.Orders/Get":
            return grpc.unary_unary_rpc_method_handler(self.get)
        if details.method == "/shop.Orders/Watch":
            return grpc.unary_stream_rpc_method_handler(self.watch)
        return None

    def get(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"missing":
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such order")
        if request.startswith(b"broken"):
            raise RuntimeError("a bug")
        return b"an order"

    def watch(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from (b"one", b"two", b"three")


def main() -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    GrpcInstrumentorServer().instrument()
    server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=[KeepAccount()])
    server.add_generic_rpc_handlers((Orders(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        get = channel.unary_unary("/shop.Orders/Get")
        for request in (b"1", b"2", b"missing", b"broken", b"broken, and told"):
            with suppress(grpc.RpcError):
                get(request, metadata=(("x-account-id", "acme"),))
        get(b"3")
        list(channel.unary_stream("/shop.Orders/Watch")(b""))
        with suppress(grpc.RpcError):
            channel.unary_unary("/shop.Orders/Nope")(b"")
    server.stop(5).wait()
    provider.shutdown()


main()
