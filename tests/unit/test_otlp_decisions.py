"""The otlp receiver's decisions: statuses, decompression, configuration, what is logged."""

import gzip
import zlib
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from otel_usageflow import errors
from otel_usageflow.config.types import HostPort
from otel_usageflow.errors import ConsumeError, InvalidData, TooLarge, Unavailable
from otel_usageflow.receivers.otlp import FACTORY
from otel_usageflow.receivers.otlp.config import OtlpConfig
from otel_usageflow.receivers.otlp.encoding import decoder
from otel_usageflow.receivers.otlp.grpc import server_options
from otel_usageflow.receivers.otlp.http import Format, format_of
from otel_usageflow.receivers.otlp.status import is_expected, refusal
from otel_usageflow.receivers.otlp.unexpected import UnexpectedErrors

CONSUME_ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ConsumeError) and kind is not ConsumeError
]
RETRYABLE = {grpc.StatusCode.UNAVAILABLE: 503}


@pytest.mark.parametrize("kind", CONSUME_ERRORS)
def test_every_consume_error_has_a_row(kind: type[ConsumeError]) -> None:
    """An error that is added to the tree without a status fails here."""
    assert is_expected(kind("x"))
    answer = refusal(kind("x"))
    assert answer.message == "x"
    assert (answer.retry_after is not None) == (answer.code in RETRYABLE)


def test_a_subclass_answers_as_its_parent() -> None:
    """A consumer may raise something more special than the table knows."""

    class DiskFull(Unavailable):
        pass

    assert refusal(DiskFull("full", retry_after=7)).http_status == 503
    assert refusal(DiskFull("full", retry_after=7)).retry_after == 7


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError(), OSError(28, "disk full"), ConsumeError("x")])
def test_everything_else_is_retryable_and_silent(error: Exception) -> None:
    """What is not the client's fault never costs it its spans, and none of our words leak."""
    answer = refusal(error)
    assert not is_expected(error)
    assert (answer.code, answer.http_status) == (grpc.StatusCode.UNAVAILABLE, 503)
    assert "disk full" not in answer.message


@given(st.floats(0, 1e6))
def test_both_forms_of_the_delay_agree(seconds: float) -> None:
    """The header is the delay in whole seconds, rounded up, and never 0."""
    answer = refusal(Unavailable("x", retry_after=seconds))
    delay = RetryInfo.FromString(dict(answer.trailers())["google.rpc.retryinfo-bin"]).retry_delay
    header = int(answer.retry_after_header() or 0)
    assert header >= 1
    assert header - 1 <= max(1.0, delay.ToNanoseconds() / 1e9) <= header + 1e-6


def test_long_messages_are_cut() -> None:
    """gRPC trailers have a limited size, and an answer over it would be another error."""
    assert len(refusal(InvalidData("x" * 100_000)).message) <= 1_000


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "identity", ""]), st.integers(0, 300))
def test_a_body_is_decoded_or_too_large(body: bytes, encoding: str, limit: int) -> None:
    """A body within the limit comes out as it was; one byte more is `TooLarge`."""
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(body)
    if len(body) <= limit:
        assert decoder(encoding)(packed, limit) == body
    else:
        with pytest.raises(TooLarge):
            decoder(encoding)(packed, limit)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_decoded_or_refused(body: bytes, encoding: str) -> None:
    """No input makes decompression fail in another way."""
    try:
        decoder(encoding)(body, 10_000)
    except (InvalidData, TooLarge):
        return


@pytest.mark.parametrize(
    ("header", "fmt"),
    [
        ("application/x-protobuf", Format.PROTOBUF),
        ("APPLICATION/JSON; charset=utf-8", Format.JSON),
        ("application/protobuf", None),
        ("", None),
    ],
)
def test_content_types(header: str, fmt: Format | None) -> None:
    """The two encodings of the specification, whatever the parameters."""
    assert format_of(header) is fmt


def config(protocols: Any, **further: Any) -> OtlpConfig:
    """A configuration as it is read from YAML."""
    parsed = FACTORY.config.model_validate({"protocols": protocols, **further})
    assert isinstance(parsed, OtlpConfig)
    return parsed


def test_a_bare_protocol_has_the_defaults() -> None:
    """`grpc:` and `http:` with nothing below them listen on the loopback interface, on OTLP's ports."""
    protocols = config({"grpc": None, "http": None}).protocols
    assert protocols.grpc is not None
    assert protocols.http is not None
    assert protocols.grpc.endpoint == HostPort("127.0.0.1", 4317)
    assert protocols.http.endpoint == HostPort("127.0.0.1", 4318)
    assert protocols.grpc.max_recv_msg_size_mib * 1024 * 1024 == protocols.http.max_request_body_size == 64 * 2**20
    assert config({"grpc": None}).protocols.http is None


@pytest.mark.parametrize(
    "protocols",
    [
        {},
        None,
        {"grpc": {"endpoint": "4317"}},
        {"grpc": {"max_recv_msg_size_mib": 0}},
        {"grpc": {"tls": {"cert_file": "a"}}},
        {"grpc": {"max_recv_msg_size": 4}},
        {"http": {"traces_url_path": "v1/traces"}},
        {"http": {"idle_timeout": "0s"}},
        {"http": {"auth": {}}},
        {"thrift": None},
    ],
)
def test_what_cannot_be_meant_is_refused(protocols: Any) -> None:
    """Unknown keys, no protocol at all, half of TLS: errors when the file is read, not later."""
    with pytest.raises(ValueError):  # noqa: PT011  (the words are pydantic's)
        config(protocols)


def test_keepalive_becomes_channel_arguments() -> None:
    """The Collector's keys, in gRPC's own names and in milliseconds."""
    keepalive = {
        "server_parameters": {"max_connection_age": "5m", "time": "30s"},
        "enforcement_policy": {"min_time": "10s", "permit_without_stream": True},
    }
    grpc_config = config({"grpc": {"keepalive": keepalive, "max_concurrent_streams": 7}}).protocols.grpc
    assert grpc_config is not None
    options = dict(server_options(grpc_config))
    assert options == {
        "grpc.so_reuseport": 0,
        "grpc.max_receive_message_length": 64 * 2**20,
        "grpc.http2.bdp_probe": 0,
        "grpc.http2.lookahead_bytes": 32 * 2**10,
        "grpc.max_concurrent_streams": 7,
        "grpc.max_connection_age_ms": 300_000,
        "grpc.keepalive_time_ms": 30_000,
        "grpc.http2.min_recv_ping_interval_without_data_ms": 10_000,
        "grpc.keepalive_permit_without_calls": 1,
    }
    assert grpc_config.keepalive.server_parameters.time == timedelta(seconds=30)


def test_unexpected_errors_are_logged_now_and_then() -> None:
    """A failure of every request is one line in ten seconds, which says how many were not logged."""
    times = iter((0.0, 1.0, 9.0, 10.0, 11.0))
    unexpected = UnexpectedErrors("receivers::otlp", clock=lambda: next(times))
    with capture_logs() as logs:
        for _ in range(5):
            unexpected.report(RuntimeError("x"))
    assert [log["not_logged_before"] for log in logs] == [0, 2]
