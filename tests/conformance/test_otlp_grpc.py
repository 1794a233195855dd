"""OTLP specification, "OTLP/gRPC": what a client sends and what it must get to hear."""

import asyncio
import struct

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from otlp_harness import EXPORT, Sink, call, numbered, otlp

from otel_usageflow.component import Consumed
from otel_usageflow.errors import (
    InvalidData,
    PermissionDenied,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

MIB = 1024 * 1024


async def test_full_success_leaves_partial_success_unset() -> None:
    """Full Success: the response is OK and `partial_success` is not set; the bytes reach the consumer as sent."""
    sink = Sink()
    sent = numbered(1, 2).SerializeToString()
    async with otlp(sink) as receiver:
        answer = await call(receiver, sent)
    assert answer.code is grpc.StatusCode.OK
    assert not ExportTraceServiceResponse.FromString(answer.body).HasField("partial_success")
    assert sink.payloads == [sent]


async def test_an_empty_request_succeeds() -> None:
    """A request without spans is a success and never reaches the pipeline."""
    sink = Sink(script=[RuntimeError("not to be reached")])
    async with otlp(sink) as receiver:
        answer = await call(receiver, b"")
    assert (answer.code, answer.body, sink.calls) == (grpc.StatusCode.OK, b"", 0)


@pytest.mark.parametrize("consumed", [Consumed(2, "2 spans without an id"), Consumed(0, "old client")])
async def test_partial_success_names_what_was_rejected(consumed: Consumed) -> None:
    """Partial Success: OK with the number of rejected spans and a message; 0 and a message is a warning."""
    async with otlp(Sink(script=[consumed])) as receiver:
        answer = await call(receiver, numbered(1).SerializeToString())
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert answer.code is grpc.StatusCode.OK
    assert (partial.rejected_spans, partial.error_message) == (consumed.rejected_spans, consumed.message)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidData("bad"), grpc.StatusCode.INVALID_ARGUMENT),
        (TooLarge("big"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Unauthenticated("who"), grpc.StatusCode.UNAUTHENTICATED),
        (PermissionDenied("no"), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_permanent_failures_carry_no_retry_info(error: Exception, code: grpc.StatusCode) -> None:
    """Failures: what will never succeed has a not retryable code, its reason, and no RetryInfo anywhere."""
    async with otlp(Sink(script=[error])) as receiver:
        answer = await call(receiver, numbered(1).SerializeToString())
    assert (answer.code, answer.details) == (code, str(error))
    assert "grpc-status-details-bin" not in answer.trailers
    assert "google.rpc.retryinfo-bin" not in answer.trailers


async def test_unavailable_has_retry_info_in_both_trailers() -> None:
    """OTLP/gRPC Throttling: UNAVAILABLE with RetryInfo, where the Collector reads it and where Python does."""
    async with otlp(Sink(script=[Unavailable("busy", retry_after=2.5)])) as receiver:
        answer = await call(receiver, numbered(1).SerializeToString())
    assert (answer.code, answer.details) == (grpc.StatusCode.UNAVAILABLE, "busy")
    status = Status.FromString(answer.trailers["grpc-status-details-bin"])
    inside = RetryInfo()
    assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert status.details[0].Unpack(inside)
    alone = RetryInfo.FromString(answer.trailers["google.rpc.retryinfo-bin"])
    assert inside == alone
    assert alone.retry_delay.ToMilliseconds() == 2_500


async def test_an_uncaught_error_is_retryable_and_says_nothing_of_itself() -> None:
    """Failures: an exception of ours is UNAVAILABLE, never UNKNOWN or INTERNAL, which clients drop."""
    async with otlp(Sink(script=[RuntimeError("secret sauce")])) as receiver:
        answer = await call(receiver, numbered(1).SerializeToString())
    assert answer.code is grpc.StatusCode.UNAVAILABLE
    assert "google.rpc.retryinfo-bin" in answer.trailers
    assert "sauce" not in answer.details


async def test_unreadable_protobuf_is_invalid_argument() -> None:
    """Failures: data that cannot be decoded is INVALID_ARGUMENT, and the next request is served."""
    sink = Sink()
    async with otlp(sink) as receiver:
        bad = await call(receiver, b"\x0a\xff\xff\xff\xff\x0f broken")
        good = await call(receiver, numbered(1).SerializeToString())
    assert (bad.code, good.code) == (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK)
    assert sink.span_ids() == [1]


async def test_a_refusal_is_trailers_only() -> None:
    """Java's exporter retries only a status that comes in the first and last HEADERS frame of the stream."""

    def literal(name: bytes, value: bytes) -> bytes:  # HPACK: literal field without indexing, new name
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

    def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
        return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body

    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", EXPORT.encode()),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    payload = numbered(1).SerializeToString()
    async with otlp(Sink(script=[Unavailable("busy")])) as receiver:
        assert receiver.grpc_address is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.grpc_address.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        writer.write(frame(1, 0x4, 1, b"".join(literal(*each) for each in fields)))
        writer.write(frame(0, 0x1, 1, b"\x00" + struct.pack(">I", len(payload)) + payload))
        seen: list[tuple[int, int]] = []
        async with asyncio.timeout(10):
            while not any(flags & 0x1 for _, flags in seen):
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3], "big"))
                if int.from_bytes(head[5:9], "big") == 1 and head[3] in (0, 1):
                    seen.append((head[3], head[4]))
        writer.close()
        await writer.wait_closed()
    assert len(seen) == 1
    assert seen[0][0] == 1  # one HEADERS frame, and it ends the stream


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_read(compression: grpc.Compression) -> None:
    """Servers must take gzip; deflate comes with gRPC."""
    sink = Sink()
    sent = numbered(*range(1, 200)).SerializeToString()
    async with otlp(sink) as receiver:
        answer = await call(receiver, sent, compression=compression)
    assert answer.code is grpc.StatusCode.OK
    assert sink.payloads == [sent]


async def test_requests_over_grpcs_own_default_are_taken() -> None:
    """Request size: the library's 4 MiB is not our limit."""
    request = numbered(1)
    request.resource_spans[0].scope_spans[0].spans[0].name = "x" * 5 * MIB
    sink = Sink()
    async with otlp(sink) as receiver:
        answer = await call(receiver, request.SerializeToString())
    assert answer.code is grpc.StatusCode.OK
    assert sink.span_ids() == [1]


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_65_mib_are_resource_exhausted_for_good(compression: grpc.Compression) -> None:
    """Request size: 64 MiB is the limit, before and after decompression, and no RetryInfo invites to try again."""
    sink = Sink()
    async with otlp(sink) as receiver:
        answer = await call(receiver, bytes(65 * MIB), compression=compression)
        after = await call(receiver, numbered(1).SerializeToString())
    assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "google.rpc.retryinfo-bin" not in answer.trailers
    assert "grpc-status-details-bin" not in answer.trailers
    assert after.code is grpc.StatusCode.OK
    assert sink.span_ids() == [1]


async def test_the_size_limit_is_configurable() -> None:
    """`max_recv_msg_size_mib` moves the limit."""
    async with otlp(Sink(), grpc={"max_recv_msg_size_mib": 1}) as receiver:
        answer = await call(receiver, bytes(2 * MIB))
    assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_other_signals_are_unimplemented() -> None:
    """A service that we do not have is UNIMPLEMENTED."""
    method = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
    async with otlp(Sink()) as receiver:
        answer = await call(receiver, b"", method=method)
    assert answer.code is grpc.StatusCode.UNIMPLEMENTED


async def test_overload_is_unavailable_and_passes() -> None:
    """Throttling: over the budget of bytes in flight a request is told to come back, and taken when it does."""
    sink = Sink(gate=asyncio.Event())
    request = numbered(1)
    request.resource_spans[0].scope_spans[0].spans[0].name = "x" * 700_000
    big = request.SerializeToString()
    async with otlp(sink, admission={"request_limit_mib": 1}) as receiver:
        first = asyncio.create_task(call(receiver, big))
        await asyncio.wait_for(sink.arrived.wait(), 10)
        refused = await call(receiver, big)
        assert sink.gate is not None
        sink.gate.set()
        assert (await first).code is grpc.StatusCode.OK
        again = await call(receiver, big)
    assert refused.code is grpc.StatusCode.UNAVAILABLE
    assert "google.rpc.retryinfo-bin" in refused.trailers
    assert again.code is grpc.StatusCode.OK


async def test_many_calls_on_one_connection_are_all_taken() -> None:
    """Concurrent unary calls: by default no number of them on one connection is refused."""
    sink = Sink()
    async with (
        otlp(sink) as receiver,
        grpc.aio.insecure_channel(str(receiver.grpc_address)) as channel,
    ):
        export = channel.unary_unary(EXPORT)
        await asyncio.gather(*(export(numbered(n).SerializeToString(), timeout=30) for n in range(1, 301)))
    assert sorted(sink.span_ids()) == list(range(1, 301))


async def test_the_limit_of_streams_refuses_nothing_for_good() -> None:
    """`max_concurrent_streams`: a call that the limit refuses is UNAVAILABLE, whose data the client keeps."""
    sink = Sink()
    async with (
        otlp(sink, grpc={"max_concurrent_streams": 4}) as receiver,
        grpc.aio.insecure_channel(str(receiver.grpc_address)) as channel,
    ):
        export = channel.unary_unary(EXPORT)

        async def deliver(number: int) -> None:
            async with asyncio.timeout(30):
                while True:
                    try:
                        await export(numbered(number).SerializeToString())
                    except grpc.aio.AioRpcError as error:
                        if error.code() is not grpc.StatusCode.UNAVAILABLE:
                            raise
                    else:
                        return

        await asyncio.gather(*(deliver(n) for n in range(1, 101)))
    assert sorted(sink.span_ids()) == list(range(1, 101))
