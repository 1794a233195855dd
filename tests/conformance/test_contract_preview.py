"""The contract on `preview`: its input, its JSON object, and what a request is, seen from outside."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from outside import EXAMPLE, command, export, policy, preview_of, request, span

REMOTE, LOCAL, UNKNOWN = 0x300, 0x100, 0
TRACE = bytes(15) + b"\x07"
CHAT = "/v1/chat/completions"


def otlp_json(data: bytes) -> dict[str, Any]:
    """The same request in OTLP/JSON: hex ids, numbers for enums."""
    message = ExportTraceServiceRequest.FromString(data)
    document: dict[str, Any] = json_format.MessageToDict(message, use_integers_for_enums=True)
    for resource, written in zip(message.resource_spans, document["resourceSpans"], strict=True):
        for scope, below in zip(resource.scope_spans, written["scopeSpans"], strict=True):
            for one, found in zip(scope.spans, below["spans"], strict=True):
                found.update(traceId=one.trace_id.hex(), spanId=one.span_id.hex().upper(), unknownName=1)
    return document


A = export(span(request(CHAT)), span(request(CHAT, user="zoe")))
B = export(span(request(CHAT)), span({"x": 1}, kind=Span.SPAN_KIND_CLIENT))
LINES = "\n".join(json.dumps(otlp_json(one)) for one in (A, B)).encode() + b"\n"
INPUTS = {
    "protobuf": A + B,
    "concatenated twice": A + B + A + B,
    "json": json.dumps(otlp_json(A + B)).encode(),
    "pretty json": json.dumps(otlp_json(A + B), indent=2).encode(),
    "json lines": LINES,
    "json lines without an end": LINES.rstrip(),
    "json lines with blank ones": LINES.replace(b"\n", b"\r\n\r\n"),
    "gzip": gzip.compress(A + B),
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of the contract."""
    file = tmp_path / "usageflow.yaml"
    file.write_text(EXAMPLE)
    return file


@pytest.mark.parametrize("form", INPUTS)
def test_input_forms(form: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTLP as protobuf (one or several concatenated requests), OTLP/JSON, or JSON lines; `-` is standard input."""
    monkeypatch.delenv("STRIPE_API_KEY", raising=False)
    (tmp_path / "spans").write_bytes(INPUTS[form])
    arguments = ["preview", "--config", config, "--format", "json", "--input"]
    of_file = command(*arguments, tmp_path / "spans")
    of_stdin = command(*arguments, "-", stdin=INPUTS[form])
    assert (of_file.status, of_file.err) == (0, "")
    assert of_file == of_stdin
    told = json.loads(of_file.out)
    assert (told["spans"], told["requests"]) == (4, 3)
    assert [(line["user"], line["quantity"]) for line in told["usage"]] == [("acme", "2"), ("zoe", "1")]


def test_the_object() -> None:
    """Exactly the keys of the contract, quantities as decimal strings."""
    spans = [
        *(span(request()) for _ in range(5)),
        span(request(user=None)),
        span(request(status=404)),
        span(request("/other")),
        span({}, kind=Span.SPAN_KIND_INTERNAL),
    ]
    assert preview_of(export(*spans), [policy()]) == {
        "spans": 9,
        "requests": 8,
        "usage": [
            {
                "policy": "chat",
                "event_name": "api_request",
                "metadata_field": "account_id",
                "user": "acme",
                "requests": 5,
                "quantity": "5",
            }
        ],
        "quarantined": [{"policy": "chat", "reason": "no_user", "requests": 1}],
        "unbilled": [{"policy": "chat", "reason": "status", "requests": 1}],
        "unmatched_requests": 1,
    }


def test_no_spans() -> None:
    """An input without spans is an object of zeros."""
    empty: dict[str, Any] = {"usage": [], "quarantined": [], "unbilled": []}
    assert preview_of(b"", [policy()]) == {"spans": 0, "requests": 0, **empty, "unmatched_requests": 0}


def test_lists_are_sorted() -> None:
    """Lists are sorted: `usage` by policy, event_name, user; the others by policy, reason."""
    policies = [policy(name=name, event_name=name, quantity={"attribute": "n"}) for name in ("z", "b", "a")]
    spans = [span(request(user=one, n=1)) for one in ("zoe", "Zoe", "é", "a", "10", "9")]
    spans += [span(request()), span(request(user=None)), span(request(status=500))]
    told = preview_of(export(*spans), policies)
    users = sorted(["zoe", "Zoe", "é", "a", "10", "9"])
    assert [(one["policy"], one["user"]) for one in told["usage"]] == [(p, u) for p in "abz" for u in users]
    expected = [(name, reason) for name in "abz" for reason in ("bad_quantity", "no_user")]
    assert [(one["policy"], one["reason"]) for one in told["quarantined"]] == expected
    assert [one["policy"] for one in told["unbilled"]] == ["a", "b", "z"]


def test_a_span_that_the_input_holds_twice_counts_once() -> None:
    """A span that the input holds twice counts once, in whatever request and order."""
    one, other = span(request()), span(request())
    again = Span.FromString(one.SerializeToString())
    again.trace_state = "x=y"
    told = preview_of(export(one, other, one) + export(again), [policy()])
    assert (told["spans"], told["requests"], told["usage"][0]["quantity"]) == (2, 2, "2")


def test_age_is_not_judged() -> None:
    """Age is not judged."""
    spans = [span(request(), end_time_unix_nano=moment) for moment in (0, 1_000_000_000)]
    assert preview_of(export(*spans), [policy()])["usage"][0]["requests"] == 2


@pytest.mark.parametrize(
    ("parent", "flags", "requests"),
    [
        (b"", LOCAL, 1),
        (b"parent-1", REMOTE, 1),
        (b"parent-1", LOCAL, 0),
        (b"parent-1", UNKNOWN, 1),
        (b"", UNKNOWN, 1),
    ],
)
def test_requests_enter_a_process(parent: bytes, flags: int, requests: int) -> None:
    """`requests`: SERVER spans that enter a process: no parent, or a remote one, or nobody knows."""
    told = preview_of(export(span(request(), parent_span_id=parent, flags=flags)), [policy()])
    assert (told["spans"], told["requests"]) == (1, requests)


def test_flags_need_no_sampled_bit() -> None:
    """Python's exporter never writes the sampled bit: a span counts without it."""
    for flags in (0x300, 0x301, 0x303, 0xFFFFFFFF):
        told = preview_of(export(span(request(), parent_span_id=b"parent-1", flags=flags)), [policy()])
        assert told["requests"] == 1


@pytest.mark.parametrize("inner_first", [False, True])
def test_nested_server_spans_are_one_request(inner_first: bool) -> None:
    """Without flags, a SERVER span whose parent is a SERVER span of the same service is the same request."""
    outer = span(request(), trace_id=TRACE, span_id=b"outer--1", flags=UNKNOWN)
    inner = span(request(), trace_id=TRACE, span_id=b"inner--1", parent_span_id=b"outer--1", flags=UNKNOWN)
    both = [export(inner), export(outer)] if inner_first else [export(outer), export(inner)]
    assert preview_of(b"".join(both), [policy()])["requests"] == 1
    elsewhere = export(outer) + export(inner, service="proxy")
    assert preview_of(elsewhere, [policy()])["requests"] == 2


@pytest.mark.parametrize("kind", [0, 1, 3, 4, 5])
def test_only_server_spans_are_requests(kind: int) -> None:
    """SERVER spans: an INTERNAL `http send` with a status is none."""
    told = preview_of(export(span(request(), kind=kind)), [policy()])
    assert (told["spans"], told["requests"], told["usage"]) == (1, 0, [])


@pytest.mark.parametrize(
    "attributes",
    [
        {"http.method": "POST", "http.target": "/chat?a=b", "http.status_code": 200},
        {"http.method": "POST", "http.url": "http://host:1/chat?a=b#c", "http.status_code": "200"},
        {"http.request.method": "POST", "url.path": "/chat", "http.response.status_code": 200},
        {"http.request.method": "POST", "url.full": "https://host/chat?a=b", "http.response.status_code": 200},
        {
            "http.method": "POST",
            "http.target": "/chat?a=b",
            "http.status_code": 200,
            "http.request.method": "POST",
            "url.path": "/chat",
            "url.query": "a=b",
            "http.response.status_code": 200,
        },
    ],
    ids=["old", "old with the whole URL", "stable", "stable with the whole URL", "both"],
)
@pytest.mark.parametrize("header", ["x-account-id", "x_account_id"])
def test_both_conventions_give_the_same_bill(attributes: dict[str, Any], header: str) -> None:
    """Old and new semantic conventions, and both at once, give the same bill."""
    told = preview_of(export(span({**attributes, f"http.request.header.{header}": ["acme"]})), [policy()])
    assert (told["requests"], [line["quantity"] for line in told["usage"]]) == (1, ["1"])


@pytest.mark.parametrize(
    "ids", [{"trace_id": b""}, {"trace_id": bytes(16)}, {"span_id": b"short"}, {"span_id": bytes(8)}]
)
def test_a_span_without_an_identity_is_not_billed(ids: dict[str, bytes]) -> None:
    """What has no identity cannot be billed once; the span beside it is."""
    told = preview_of(export(span(request(), **ids), span(request())), [policy()])
    assert (told["spans"], told["requests"], told["usage"][0]["requests"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (LINES + b'{"resourceSpans": [{"scopeSp', "line 3"),
        (A[:-3], "offset"),
        (b"\x89PNG\r\n\x1a\n", "offset 0"),
        (b"hello", "offset"),
        (b'{"resourceSpans": 5}', "resourceSpans"),
        (b"[1]", "line 1"),
        (gzip.compress(A)[:-9], "gzip"),
        (b"[" * 100_000, "line 1"),
    ],
)
def test_input_that_cannot_be_read(data: bytes, says: str, config: Path) -> None:
    """Exit status 1, a message that says where, nothing on standard output."""
    result = command("preview", "--config", config, "--input", "-", stdin=data)
    assert (result.status, result.out) == (1, "")
    assert says in result.err
    assert "Traceback" not in result.err


def test_input_that_is_not_there(config: Path, tmp_path: Path) -> None:
    """A file that does not exist, or is a directory, is named."""
    for path in (tmp_path / "absent.pb", tmp_path):
        result = command("preview", "--config", config, "--input", path)
        assert (result.status, result.out, str(path) in result.err) == (1, "", True)
