"""The floor of the stack: a gRPC server that takes bytes and answers nothing, as a process of its own."""

import asyncio
import sys
from typing import Any

import grpc

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


async def _answer(_payload: bytes, _context: object) -> bytes:
    return b""


class _Everything(grpc.GenericRpcHandler):
    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        """The one handler."""
        return grpc.unary_unary_rpc_method_handler(_answer)


async def main() -> None:
    """Print the port, and serve until killed."""
    server = grpc.aio.server(
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 * 1024 * 1024)]
    )
    server.add_generic_rpc_handlers([_Everything()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
