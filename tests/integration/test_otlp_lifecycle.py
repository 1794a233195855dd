"""The otlp receiver's life: its ports, its start, its end."""

import asyncio
import socket
import subprocess
import sys

import aiohttp
import grpc
import pytest
from otlp_harness import EXPORT, PROTOBUF, Sink, call, numbered, otlp, post
from structlog.testing import capture_logs

from otel_usageflow.errors import CannotListen, StartError

SECOND_PROCESS = """
import asyncio, sys
from otlp_harness import Sink, otlp

async def main():
    async with otlp(Sink(), **{sys.argv[1]: {"endpoint": sys.argv[2]}}):
        print("listening")

asyncio.run(main())
"""


@pytest.mark.parametrize("transport", ["grpc", "http"])
async def test_a_second_process_on_the_same_port_fails_loudly(transport: str) -> None:
    """No second process takes a share of the connections: it stops with the place in the configuration."""
    async with otlp(Sink()) as receiver:
        address = str(receiver.grpc_address if transport == "grpc" else receiver.http_address)
        second = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", SECOND_PROCESS, transport, address],
            env={"PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert second.returncode != 0
    assert "listening" not in second.stdout
    assert f"CannotListen: receivers::otlp::protocols::{transport}::endpoint: " in second.stderr
    assert "Address already in use" in second.stderr
    assert "choose another endpoint" in second.stderr


async def test_a_failed_start_leaves_nothing_open() -> None:
    """When the second transport cannot start, the first one is closed again."""
    with socket.create_server(("127.0.0.1", 0)) as occupied, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        with pytest.raises(CannotListen):
            async with otlp(
                Sink(),
                grpc={"endpoint": f"127.0.0.1:{port}"},
                http={"endpoint": f"127.0.0.1:{occupied.getsockname()[1]}"},
            ):
                pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.parametrize("transport", ["grpc", "http"])
async def test_a_host_that_does_not_exist_is_a_start_error(transport: str) -> None:
    """An endpoint that is not on this machine stops the start with its place in the configuration."""
    with pytest.raises(StartError, match=f"receivers::otlp::protocols::{transport}::endpoint"):
        async with otlp(Sink(), **{transport: {"endpoint": "192.0.2.1:4317"}}):
            pass


async def test_nothing_is_opened_before_it_is_entered() -> None:
    """Building a receiver needs no port, and leaving it gives them back."""
    receiving = otlp(Sink())
    receiver = await receiving.__aenter__()
    addresses = [receiver.grpc_address, receiver.http_address]
    await receiving.__aexit__(None, None, None)
    for address in addresses:
        assert address is not None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address.host, address.port), timeout=5)


async def test_it_stops_listening_at_once_and_finishes_what_is_in_flight() -> None:
    """While calls are finished, no new connection is taken; then the clients get their answers."""
    sink = Sink(gate=asyncio.Event())
    receiving = otlp(sink, grace=30)
    receiver = await receiving.__aenter__()
    grpc_port, http_port = receiver.grpc_address, receiver.http_address
    assert grpc_port is not None
    assert http_port is not None
    calls = [
        asyncio.ensure_future(call(receiver, numbered(1).SerializeToString())),
        asyncio.ensure_future(post(receiver, numbered(2).SerializeToString())),
    ]
    async with asyncio.timeout(20):
        await sink.reached(2)
        leaving = asyncio.ensure_future(receiving.__aexit__(None, None, None))
        for address in (grpc_port, http_port):
            while True:  # the listener is closed within a few turns of the loop
                try:
                    _, writer = await asyncio.open_connection(address.host, address.port)
                except ConnectionRefusedError:
                    break
                writer.close()
                await asyncio.sleep(0.01)
        assert not leaving.done()
        assert sink.gate is not None
        sink.gate.set()
        grpc_answer, http_answer = await asyncio.gather(*calls)
        await leaving
    assert grpc_answer.code is grpc.StatusCode.OK
    assert http_answer.status == 200
    assert sorted(sink.span_ids()) == [1, 2]


async def test_the_end_is_bounded_by_the_grace() -> None:
    """A pipeline that never returns does not hold the stop up, and no client is told that its spans were taken."""
    sink = Sink(gate=asyncio.Event())
    receiving = otlp(sink, grace=0.3)
    receiver = await receiving.__aenter__()
    payload = numbered(1).SerializeToString()
    calls = [
        asyncio.ensure_future(call(receiver, payload)),
        asyncio.ensure_future(post(receiver, payload)),
    ]
    async with asyncio.timeout(20):
        await sink.reached(2)
        began = asyncio.get_running_loop().time()
        await receiving.__aexit__(None, None, None)
        took = asyncio.get_running_loop().time() - began
        grpc_answer, http_answer = await asyncio.gather(*calls, return_exceptions=True)
    assert took < 5
    assert not isinstance(grpc_answer, BaseException)
    assert grpc_answer.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert isinstance(http_answer, aiohttp.ClientError)
    assert sink.payloads == []


async def test_idle_connections_do_not_hold_the_stop_up() -> None:
    """Clients that keep their connections open are disconnected at once."""
    receiving = otlp(Sink(), grace=60)
    receiver = await receiving.__aenter__()
    async with (
        asyncio.timeout(10),
        grpc.aio.insecure_channel(str(receiver.grpc_address)) as channel,
        aiohttp.ClientSession() as session,
    ):
        await channel.unary_unary(EXPORT)(b"")
        url = f"http://{receiver.http_address}/v1/traces"
        async with session.post(url, data=b"", headers={"Content-Type": PROTOBUF}) as answer:
            assert answer.status == 200
        await receiving.__aexit__(None, None, None)


async def test_slow_headers_are_cut_off() -> None:
    """Slow loris: a client that dribbles its headers is disconnected after `idle_timeout`; others are served."""
    async with otlp(Sink(), http={"idle_timeout": "300ms"}) as receiver, asyncio.timeout(20):
        assert receiver.http_address is not None
        reader, writer = await asyncio.open_connection(*receiver.http_address)
        writer.write(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\n")
        closed = asyncio.ensure_future(reader.read())
        assert (await post(receiver, b"")).status == 200
        while not closed.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait({closed}, timeout=0.05)
        assert b"200" not in closed.result()
        writer.close()


async def test_slow_bodies_are_cut_off_with_a_retryable_answer() -> None:
    """Slow loris: a body that does not arrive within `read_timeout` is 503; its client may have had a bad line."""
    async with otlp(Sink(), http={"read_timeout": "300ms"}) as receiver, asyncio.timeout(20):
        assert receiver.http_address is not None
        reader, writer = await asyncio.open_connection(*receiver.http_address)
        writer.write(
            f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 99\r\n\r\n".encode()
        )
        first = asyncio.ensure_future(reader.readline())
        while not first.done():
            writer.write(b"\n")
            await asyncio.wait({first}, timeout=0.05)
        assert b"503" in first.result()
        writer.close()


async def test_a_client_that_hangs_up_costs_nothing() -> None:
    """A connection that breaks off in the middle of a body leaves the budget as it was."""
    sink = Sink()
    async with otlp(sink, admission={"request_limit_mib": 1}) as receiver, asyncio.timeout(20):
        assert receiver.http_address is not None
        for _ in range(5):
            _, writer = await asyncio.open_connection(*receiver.http_address)
            writer.write(
                f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\n"
                "Content-Length: 900001\r\n\r\n".encode()
            )
            writer.write(bytes(900_000))
            await writer.drain()
            writer.transport.abort()
        request = numbered(1)
        request.resource_spans[0].scope_spans[0].spans[0].name = "x" * 900_000
        with capture_logs() as logs:
            while (await post(receiver, request.SerializeToString())).status == 503:
                pass  # until the server has noticed all of them
        assert logs == []
    assert sink.span_ids() == [1]
