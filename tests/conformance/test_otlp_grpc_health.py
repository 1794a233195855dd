"""grpc.health.v1: what a probe gets to hear."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from otlp_harness import FakeHealth, Sink, otlp

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
TRACES = "opentelemetry.proto.collector.trace.v1.TraceService"


@pytest.mark.parametrize("service", ["", TRACES])
async def test_check_follows_the_health_of_the_service(service: str) -> None:
    """SERVING exactly when nobody has a problem, at once."""
    health = FakeHealth()
    async with (
        otlp(Sink(), health=health) as receiver,
        grpc.aio.insecure_channel(str(receiver.grpc_address)) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        assert (await stub.Check(request)).status == SERVING
        health.report("sqlite_storage", "disk full")
        assert (await stub.Check(request)).status == NOT_SERVING
        health.report("sqlite_storage", None)
        assert (await stub.Check(request)).status == SERVING


async def test_an_unknown_service() -> None:
    """Check answers NOT_FOUND, Watch answers SERVICE_UNKNOWN."""
    async with (
        otlp(Sink()) as receiver,
        grpc.aio.insecure_channel(str(receiver.grpc_address)) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="other")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(request)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(request)
        assert (await watch.read()).status == SERVICE_UNKNOWN
        watch.cancel()


async def test_watch_tells_changes_and_the_end() -> None:
    """Watch tells the state, each change, and NOT_SERVING when the receiver stops; it does not hold the stop up."""
    health = FakeHealth()
    async with asyncio.timeout(15):
        receiving = otlp(Sink(), health=health, grace=60)
        receiver = await receiving.__aenter__()
        async with grpc.aio.insecure_channel(str(receiver.grpc_address)) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=TRACES))
            assert (await watch.read()).status == SERVING
            health.report("sqlite_storage", "disk full")
            assert (await watch.read()).status == NOT_SERVING
            health.report("sqlite_storage", None)
            assert (await watch.read()).status == SERVING
            await receiving.__aexit__(None, None, None)
            assert (await watch.read()).status == NOT_SERVING
            assert await watch.read() is grpc.aio.EOF
