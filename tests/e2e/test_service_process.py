"""The service as a process: it starts, takes spans, and stops as it promises."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from service_process import CONFIG, environment, running


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "usageflow.yaml"
    file.write_text(CONFIG)
    return str(file)


@pytest.fixture(name="environment")
def environment_fixture(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run_until_signal(config: str, environment: dict[str, str], number: signal.Signals) -> None:
    """The service starts, says where it listens, takes spans, and ends with 0 when told to."""
    async with running(["--config", config], environment) as service:
        ports = await service.ports()
        request = ExportTraceServiceRequest()
        span = (
            request.resource_spans.add()
            .scope_spans.add()
            .spans.add(
                trace_id=b"t" * 16,
                span_id=b"s" * 8,
                name="GET /",
                kind=2,
                start_time_unix_nano=1,
                end_time_unix_nano=2,
            )
        )
        span.attributes.add(key="http.request.method").value.string_value = "GET"
        assert await post(ports["http"], request.SerializeToString()) == b"HTTP/1.1 200 OK"
        service.process.send_signal(number)
        assert (await service.line("stopping"))["signal"] == number.name
        summary = await service.line("usage_summary")
        assert (summary["spans"], summary["requests"], summary["unmatched"]) == (1, 1, 1)
        await service.line("stopped")
        assert await service.end() == 0
        remarks = [line for line in service.lines if line["event"] == "configuration"]
        assert [remark["path"] for remark in remarks] == ["exporters::stripe_meter"]


async def post(port: int, body: bytes) -> bytes:
    """Send one request; the status line."""
    head = (
        f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: {len(body)}"
    )
    async with connected(port) as (reader, writer):
        writer.write(head.encode() + b"\r\nConnection: close\r\n\r\n" + body)
        answer = await reader.read()
    return answer.partition(b"\r\n")[0]


async def test_call_in_flight_is_finished(config: str, environment: dict[str, str]) -> None:
    """A call that has begun before the signal is answered, and only then does the service end."""
    async with running(["--config", config], environment) as service:
        ports = await service.ports()
        async with connected(ports["http"]) as (reader, writer):
            await begin_call(reader, writer)
            service.process.send_signal(signal.SIGTERM)
            await service.line("stopping")
            writer.write(b"\0")  # the last byte; with it the body is no OTLP message
            async with asyncio.timeout(5):
                assert (await reader.readline()).startswith(b"HTTP/1.1 400")
            assert await service.end() == 0


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def begin_call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a request whose last byte is still to come, and that the service has begun to read."""
    writer.write(
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
        b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        await reader.readline()
    writer.write(b"\xff\xff")
    await writer.drain()


async def test_second_signal(config: str, environment: dict[str, str]) -> None:
    """While a call keeps the drain waiting, a second signal ends the service at once, with 2."""
    async with running(["--config", config], environment) as service:
        ports = await service.ports()
        async with connected(ports["http"]) as (reader, writer):
            await begin_call(reader, writer)
            service.process.send_signal(signal.SIGTERM)
            await service.line("stopping")
            service.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(2):
                assert await service.process.wait() == 2
            assert service.process.stderr is not None
            assert await service.process.stderr.read() == b"otel-usageflow: stopped at once by a second signal\n"


async def test_stop_is_bounded(config: str, environment: dict[str, str]) -> None:
    """A client that never finishes its call cannot keep the service from ending within eight seconds."""
    async with running(["--config", config], environment) as service:
        ports = await service.ports()
        async with connected(ports["http"]) as (reader, writer):
            await begin_call(reader, writer)
            service.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(8.5):
                assert await service.process.wait() == 0


async def test_port_in_use(config: str, environment: dict[str, str]) -> None:
    """A port that is taken is named with its place in the configuration; the exit status is 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        place = "receivers::otlp::protocols::http::endpoint"
        async with running(["--config", config, "--set", f"{place}=127.0.0.1:{port}"], environment) as service:
            failed = await service.line("failed")
            assert f"{place}: cannot listen on 127.0.0.1:{port}" in failed["error"]
            assert await service.end() == 2


async def test_ledger_in_use(config: str, environment: dict[str, str]) -> None:
    """A second service on the same ledger does not start, and says why."""
    async with running(["--config", config], environment) as first:
        await first.ports()
        async with running(["--config", config], environment) as second:
            failed = await second.line("failed")
            assert environment["TEST_DIRECTORY"] in failed["error"]
            assert await second.end() == 2
