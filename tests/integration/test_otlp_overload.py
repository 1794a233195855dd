"""More than the receiver holds at once: the rest is refused before it is read, and taken when it is sent again."""

import asyncio

import grpc
from otlp_harness import EXPORT, Sink, numbered, otlp

MIB = 1024 * 1024
CALLS = 200


def a_mebibyte(number: int) -> bytes:
    """A request of that size."""
    request = numbered(number)
    request.resource_spans[0].scope_spans[0].spans[0].name = "x" * MIB
    return request.SerializeToString()


async def test_however_much_comes_no_more_than_the_limit_is_held() -> None:
    """Of 200 MiB at once, on 16 connections, 8 are held; what is refused can be sent again, and is taken then."""
    sink = Sink(gate=asyncio.Event())
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with otlp(sink, admission={"request_limit_mib": 8}) as receiver, asyncio.timeout(60):
        channels = [grpc.aio.insecure_channel(str(receiver.grpc_address), options=options) for _ in range(16)]
        first = asyncio.ensure_future(channels[0].unary_unary(EXPORT)(a_mebibyte(1)))
        await sink.reached(1)
        refused: list[int] = []

        async def deliver(number: int) -> None:
            try:
                await channels[number % 16].unary_unary(EXPORT)(a_mebibyte(number))
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017
                assert "google.rpc.retryinfo-bin" in dict(error.trailing_metadata() or ())  # noqa: PT017
                refused.append(number)

        under_way = {asyncio.create_task(deliver(number)) for number in range(2, CALLS + 1)}
        while sink.calls + len(refused) < CALLS:
            _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        assert sink.calls < 8
        assert sink.gate is not None
        sink.gate.set()
        await asyncio.gather(first, *under_way)
        while refused:
            await deliver(refused.pop())
        for channel in channels:
            await channel.close(None)
    assert sorted(sink.span_ids()) == list(range(1, CALLS + 1))


async def test_a_request_is_refused_before_it_is_sent() -> None:
    """Where there is no room, a client that has only begun its call is told to come back."""
    sink = Sink(gate=asyncio.Event())
    async with (
        otlp(sink, admission={"request_limit_mib": 1}) as receiver,
        grpc.aio.insecure_channel(str(receiver.grpc_address)) as channel,
        asyncio.timeout(30),
    ):
        first = asyncio.ensure_future(channel.unary_unary(EXPORT)(a_mebibyte(1)))
        await sink.reached(1)
        begun = channel.stream_unary(EXPORT)()
        assert await begun.code() is grpc.StatusCode.UNAVAILABLE
        assert sink.gate is not None
        sink.gate.set()
        await first
    assert sink.calls == 1
