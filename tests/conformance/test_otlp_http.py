"""OTLP specification, "OTLP/HTTP": what a client sends and what it must get to hear."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable

import pytest
from google.protobuf import json_format
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from otlp_harness import JSON, PROTOBUF, HttpAnswer, Sink, numbered, numbered_json, otlp, post
from structlog.testing import capture_logs

from otel_usageflow.component import Consumed
from otel_usageflow.errors import (
    InvalidData,
    PermissionDenied,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

MIB = 1024 * 1024
BODIES = {PROTOBUF: numbered(1).SerializeToString(), JSON: json.dumps(numbered_json(1)).encode()}
each_format = pytest.mark.parametrize("fmt", [PROTOBUF, JSON])


def read_status(answer: HttpAnswer, fmt: str) -> Status:
    """The error's body, in the encoding that the request had."""
    assert answer.headers["Content-Type"] == fmt
    if fmt == JSON:
        return json_format.Parse(answer.body, Status())
    return Status.FromString(answer.body)


def read_response(answer: HttpAnswer, fmt: str) -> ExportTraceServiceResponse:
    """The success's body, in the encoding that the request had."""
    assert answer.headers["Content-Type"] == fmt
    if fmt == JSON:
        return json_format.Parse(answer.body, ExportTraceServiceResponse())
    return ExportTraceServiceResponse.FromString(answer.body)


@each_format
async def test_full_success(fmt: str) -> None:
    """Full Success: 200, the response in the request's encoding, `partial_success` not set."""
    sink = Sink()
    async with otlp(sink) as receiver:
        answer = await post(receiver, BODIES[fmt], fmt)
    assert answer.status == 200
    assert not read_response(answer, fmt).HasField("partial_success")
    assert sink.span_ids() == [1]


@each_format
async def test_partial_success(fmt: str) -> None:
    """Partial Success: 200 with the number of rejected spans and a message."""
    async with otlp(Sink(script=[Consumed(3, "3 spans without an id")])) as receiver:
        answer = await post(receiver, BODIES[fmt], fmt)
    partial = read_response(answer, fmt).partial_success
    assert (answer.status, partial.rejected_spans, partial.error_message) == (200, 3, "3 spans without an id")


@each_format
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidData("bad"), 400),
        (Unauthenticated("who"), 401),
        (PermissionDenied("no"), 403),
        (TooLarge("big"), 413),
    ],
)
async def test_permanent_failures(error: Exception, status: int, fmt: str) -> None:
    """Failures: a status that clients do not retry, a `google.rpc.Status` as the body, and no `Retry-After`."""
    async with otlp(Sink(script=[error])) as receiver:
        answer = await post(receiver, BODIES[fmt], fmt)
    assert answer.status == status
    assert read_status(answer, fmt).message == str(error)
    assert "Retry-After" not in answer.headers


@each_format
@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (2.0, "2"), (2.1, "3")])
async def test_unavailable_says_when_to_come_back(seconds: float, header: str, fmt: str) -> None:
    """OTLP/HTTP Throttling: 503 with `Retry-After` in whole seconds, at least 1."""
    async with otlp(Sink(script=[Unavailable("busy", retry_after=seconds)])) as receiver:
        answer = await post(receiver, BODIES[fmt], fmt)
    status = read_status(answer, fmt)
    assert (answer.status, answer.headers["Retry-After"], status.message) == (503, header, "busy")
    assert status.details[0].Unpack(RetryInfo())


@each_format
async def test_an_uncaught_error_is_503(fmt: str) -> None:
    """Failures: an exception of ours is 503, never 500, for which clients drop their spans."""
    async with otlp(Sink(script=[RuntimeError("secret sauce")])) as receiver:
        answer = await post(receiver, BODIES[fmt], fmt)
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert b"sauce" not in answer.body


@pytest.mark.parametrize(
    ("body", "fmt"),
    [
        (b"\x0a\xff\xff\xff\xff\x0f broken", PROTOBUF),
        (b"{", JSON),
        (b"", JSON),
        (b"[]", JSON),
        (b'{"resourceSpans": "\xff\xfe"}', JSON),
        (b"[" * 200_000, JSON),
    ],
)
async def test_bad_data(body: bytes, fmt: str) -> None:
    """Bad Data: what cannot be decoded is 400 with a reason, and the next request is served."""
    sink = Sink()
    async with otlp(sink) as receiver:
        answer = await post(receiver, body, fmt)
        after = await post(receiver, BODIES[fmt], fmt)
    assert (answer.status, after.status) == (400, 200)
    assert read_status(answer, fmt).message


@pytest.mark.parametrize(("body", "fmt"), [(b"", PROTOBUF), (b"{}", JSON)])
async def test_an_empty_request_succeeds(body: bytes, fmt: str) -> None:
    """A request without spans is a success and never reaches the pipeline."""
    sink = Sink(script=[RuntimeError("not to be reached")])
    async with otlp(sink) as receiver:
        answer = await post(receiver, body, fmt)
    assert (answer.status, sink.calls) == (200, 0)


@each_format
@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("zlib", zlib.compress),
        ("identity", bytes),
        ("gzip", lambda body: gzip.compress(body[:40]) + gzip.compress(body[40:])),
    ],
)
async def test_compressed_bodies(encoding: str, encode: Callable[[bytes], bytes], fmt: str) -> None:
    """Servers must take gzip; deflate is zlib's format; gzip may come in several members."""
    sink = Sink()
    async with otlp(sink) as receiver:
        answer = await post(receiver, encode(BODIES[fmt]), fmt, headers={"Content-Encoding": encoding})
    assert answer.status == 200
    assert sink.span_ids() == [1]


async def test_large_compressed_bodies_are_read_whole() -> None:
    """A body that is inflated or parsed in a thread arrives as it was sent."""
    numbers = range(1, 20_001)
    document = json.dumps(numbered_json(*numbers)).encode()
    message = numbered(*numbers).SerializeToString()
    sink = Sink()
    async with otlp(sink) as receiver:
        for fmt, body in ((JSON, document), (PROTOBUF, message)):
            packed = gzip.compress(body, 1)
            assert len(packed) > 16 * 1024
            assert (await post(receiver, packed, fmt, headers={"Content-Encoding": "gzip"})).status == 200
    assert sink.span_ids() == [*numbers, *numbers]
    assert sink.payloads[1] == message


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("zstd", b"\x28\xb5\x2f\xfd"),
        ("br", b"x"),
        ("gzip, gzip", gzip.compress(gzip.compress(BODIES[PROTOBUF]))),
        ("gzip", b"not gzip"),
        ("gzip", b""),
        ("gzip", gzip.compress(BODIES[PROTOBUF])[:-4]),
        ("gzip", gzip.compress(BODIES[PROTOBUF]) + b"and more"),
        ("deflate", zlib.compress(BODIES[PROTOBUF]) + b"and more"),
        ("gzip", gzip.compress(b"") * 5_000),
    ],
)
async def test_broken_or_unknown_encodings(encoding: str, body: bytes) -> None:
    """A `Content-Encoding` that we do not read, or that the body does not have, is 400."""
    async with otlp(Sink()) as receiver:
        answer = await post(receiver, body, headers={"Content-Encoding": encoding})
    assert answer.status == 400


async def test_65_mib_are_413() -> None:
    """Request size: 64 MiB is the limit; a body that is announced as larger is refused before it is sent."""
    async with otlp(Sink()) as receiver:
        answer = await post(receiver, bytes(65 * MIB))
        after = await post(receiver, BODIES[PROTOBUF])
    assert (answer.status, after.status) == (413, 200)
    assert read_status(answer, PROTOBUF).message


async def test_the_limit_holds_without_a_content_length() -> None:
    """Request size: a chunked body is cut off at the limit."""

    async def chunks():  # type: ignore[no-untyped-def]
        for _ in range(40):
            yield bytes(64 * 1024)

    async with otlp(Sink(), http={"max_request_body_size": MIB}) as receiver:
        answer = await post(receiver, chunks())
    assert answer.status == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_bombs_are_413(encoding: str) -> None:
    """Request size: the limit holds after decompression, and nothing is inflated past it."""
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    bomb = compress(bytes(200 * MIB))
    assert len(bomb) < MIB
    async with otlp(Sink()) as receiver:
        answer = await post(receiver, bomb, headers={"Content-Encoding": encoding})
    assert answer.status == 413


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
async def test_other_methods_are_405(method: str) -> None:
    """Only POST carries spans."""
    async with otlp(Sink()) as receiver:
        answer = await post(receiver, None, None, method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "application/jsonx", None])
async def test_other_content_types_are_415(content_type: str | None) -> None:
    """A body is protobuf or JSON."""
    async with otlp(Sink()) as receiver:
        answer = await post(receiver, BODIES[PROTOBUF], content_type)
    assert answer.status == 415


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON ;x=y"])
async def test_content_types_may_have_parameters(content_type: str) -> None:
    """The content type is compared without its parameters and in any case."""
    sink = Sink()
    async with otlp(sink) as receiver:
        answer = await post(receiver, BODIES[JSON], content_type)
    assert answer.status == 200
    assert sink.span_ids() == [1]


async def test_another_path_is_404_and_slash_is_explained_once() -> None:
    """A client whose endpoint lacks the path drops its spans in silence: our log says so, once."""
    async with otlp(Sink()) as receiver:
        with capture_logs() as logs:
            answers = [await post(receiver, BODIES[PROTOBUF], path=path) for path in ("/", "/", "/v1/logs")]
    assert [answer.status for answer in answers] == [404, 404, 404]
    assert [log["log_level"] for log in logs] == ["warning"]
    assert logs[0]["path"] == "/v1/traces"


async def test_the_path_is_configurable() -> None:
    """`traces_url_path` moves the endpoint."""
    async with otlp(Sink(), http={"traces_url_path": "/otlp"}) as receiver:
        there = await post(receiver, BODIES[PROTOBUF], path="/otlp")
        gone = await post(receiver, BODIES[PROTOBUF])
    assert (there.status, gone.status) == (200, 404)


async def test_overload_is_503_and_passes() -> None:
    """Throttling: over the budget of bytes in flight a request is told to come back, and taken when it does."""
    sink = Sink(gate=asyncio.Event())
    request = numbered(1)
    request.resource_spans[0].scope_spans[0].spans[0].name = "x" * 700_000
    big = request.SerializeToString()
    packed = gzip.compress(big)  # counted by what it inflates to
    async with otlp(sink, admission={"request_limit_mib": 1}) as receiver:
        first = asyncio.create_task(post(receiver, big))
        await asyncio.wait_for(sink.arrived.wait(), 10)
        refused = [
            await post(receiver, big),
            await post(receiver, packed, headers={"Content-Encoding": "gzip"}),
        ]
        assert sink.gate is not None
        sink.gate.set()
        assert (await first).status == 200
        again = await post(receiver, big)
    assert [answer.status for answer in refused] == [503, 503]
    assert all("Retry-After" in answer.headers for answer in refused)
    assert again.status == 200


async def test_expect_100_continue() -> None:
    """A client that asks first (curl does, for large bodies) is told to go on, or refused before it sends."""
    sink = Sink()
    async with otlp(sink) as receiver:
        assert receiver.http_address is not None
        for length, first_line in ((len(BODIES[PROTOBUF]), b"100 Continue"), (70 * MIB, b"413 ")):
            reader, writer = await asyncio.open_connection("127.0.0.1", receiver.http_address.port)
            writer.write(
                f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\n"
                f"Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            async with asyncio.timeout(10):
                assert first_line in await reader.readline()
                if first_line.startswith(b"100"):
                    writer.write(BODIES[PROTOBUF])
                    assert await reader.readline() == b"\r\n"
                    assert b"200 OK" in await reader.readline()
            writer.close()
            await writer.wait_closed()
    assert sink.span_ids() == [1]


@pytest.mark.parametrize(("enabled", "connection"), [(True, None), (False, "close")])
async def test_keep_alive_can_be_switched_off(enabled: bool, connection: str | None) -> None:
    """`keep_alives_enabled: false` closes the connection after each answer."""
    async with otlp(Sink(), http={"keep_alives_enabled": enabled}) as receiver:
        answer = await post(receiver, BODIES[PROTOBUF])
    assert answer.headers.get("Connection") == connection


CORS = {
    "allowed_origins": ["https://*.example.com"],
    "allowed_headers": ["x-tenant"],
    "exposed_headers": ["x-request-id"],
    "max_age": 600,
}


async def test_cors_preflight() -> None:
    """A page of an allowed origin may send what is allowed; to all others nothing is granted."""
    async with otlp(Sink(), http={"cors": CORS}) as receiver:

        async def ask(origin: str, headers: str) -> HttpAnswer:
            asked = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": headers,
            }
            return await post(receiver, None, None, method="OPTIONS", headers=asked)

        granted = await ask("https://app.example.com", "content-type, X-Tenant")
        refused = [
            await ask("https://example.org", "content-type"),
            await ask("https://app.example.com.evil.org", "content-type"),
            await ask("https://app.example.com", "authorization"),
        ]
    assert granted.status == 204
    assert granted.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert granted.headers["Access-Control-Allow-Methods"] == "POST"
    assert granted.headers["Access-Control-Allow-Headers"] == "content-type, x-tenant"
    assert granted.headers["Access-Control-Max-Age"] == "600"
    assert not any("Access-Control-Allow-Origin" in answer.headers for answer in refused)


async def test_cors_answers() -> None:
    """Successes and errors alike can be read by a page of an allowed origin."""
    origin = {"Origin": "https://app.example.com"}
    async with otlp(Sink(script=[Consumed(), Unavailable("busy")]), http={"cors": CORS}) as receiver:
        answers = [await post(receiver, BODIES[JSON], JSON, headers=origin) for _ in range(2)]
        stranger = await post(receiver, BODIES[JSON], JSON, headers={"Origin": "https://example.org"})
    assert [answer.status for answer in answers] == [200, 503]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert answer.headers["Access-Control-Expose-Headers"] == "x-request-id"
    assert "Access-Control-Allow-Origin" not in stranger.headers
