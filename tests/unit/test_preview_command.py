"""`otel-usageflow preview`: exactly the object of the contract, and a table for people."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from span_builder import http, payload, span

from otel_usageflow.cli import main

CONFIG = """
receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:4318}}}}
processors:
  usage_policy:
    policies:
      - name: tokens
        endpoint: POST /chat
        user: {header: x-account-id}
        customer: {id: true}
        event_name: tokens
        quantity: {attribute: tokens}
      - name: chat
        endpoint: POST /chat
        user: {header: x-account-id}
        customer: {metadata_field: account_id}
        event_name: api_request
exporters: {debug: {}}
service: {pipelines: {traces: {receivers: [otlp], processors: [usage_policy], exporters: [debug]}}}
"""


def of(user: str | None, **more: Any) -> dict[str, Any]:
    return http(**more) | ({"http.request.header.x-account-id": [user]} if user else {})


SPANS = payload(
    span(of("zoe", tokens=0.1)),
    span(of("acme", tokens=0.2)),
    span(of("acme", tokens="0.1")),
    span(of("acme", tokens=0.7)),
    span(of(None, tokens=1)),
    span(of("acme", tokens=-1)),
    span(of("acme", status=500, tokens=1)),
    span(of("acme", path="/other")),
    span(of("acme", path="/other/2", method="GET", http__route="/other/{id}")),
    span(of("acme"), kind=1),
)
EXPECTED = {
    "spans": 10,
    "requests": 9,
    "usage": [
        {
            "policy": "chat",
            "event_name": "api_request",
            "metadata_field": "account_id",
            "user": "acme",
            "requests": 4,
            "quantity": "4",
        },
        {
            "policy": "chat",
            "event_name": "api_request",
            "metadata_field": "account_id",
            "user": "zoe",
            "requests": 1,
            "quantity": "1",
        },
        {
            "policy": "tokens",
            "event_name": "tokens",
            "metadata_field": None,
            "user": "acme",
            "requests": 3,
            "quantity": "1",
        },
        {
            "policy": "tokens",
            "event_name": "tokens",
            "metadata_field": None,
            "user": "zoe",
            "requests": 1,
            "quantity": "0.1",
        },
    ],
    "quarantined": [
        {"policy": "chat", "reason": "no_user", "requests": 1},
        {"policy": "tokens", "reason": "bad_quantity", "requests": 1},
        {"policy": "tokens", "reason": "no_user", "requests": 1},
    ],
    "unbilled": [
        {"policy": "chat", "reason": "status", "requests": 1},
        {"policy": "tokens", "reason": "status", "requests": 1},
    ],
    "unmatched_requests": 2,
}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    config, spans = tmp_path / "usageflow.yaml", tmp_path / "spans.pb"
    config.write_text(CONFIG)
    spans.write_bytes(SPANS)
    return str(config), str(spans)


def test_json_is_the_object_of_the_contract(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Keys, their order, the order of lists, and quantities as plain decimal strings."""
    assert main(["preview", "--config", files[0], "--input", files[1], "--format", "json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == EXPECTED
    assert list(json.loads(output.out)) == list(EXPECTED)
    assert output.err == ""


def test_a_span_counts_once_everywhere(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """An input that holds everything three times gives the same object."""
    Path(files[1]).write_bytes(SPANS * 3)
    assert main(["preview", "--config", files[0], "--input", files[1], "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == EXPECTED


def test_standard_input(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--input -` reads standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SPANS)))
    assert main(["preview", "--config", files[0], "--input", "-", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == EXPECTED


def test_the_table_shows_what_was_not_billed_and_why(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Users and sums, reasons, the attributes of requests without a user, and endpoints without a policy."""
    assert main(["preview", "--config", files[0], "--input", files[1]]) == 0
    table = capsys.readouterr().out
    for text in (
        "10 spans",
        "9 requests among them",
        "zoe",
        "0.1",
        "bad_quantity",
        "status",
        "url.path",
        "/other/{id}",
    ):
        assert text in table


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "holds no spans"),
        (payload(span({"db.system": "x"}, kind=3)), "No span is an HTTP request"),
        (payload(span(http("/x"))), "No policy matches any request"),
        (payload(span(http("/\x1b[31m[red]"))), "�"),
    ],
)
def test_an_empty_bill_is_explained(
    data: bytes, says: str, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing is billed the table says what is missing; it prints nothing that a terminal would obey."""
    Path(files[1]).write_bytes(data)
    assert main(["preview", "--config", files[0], "--input", files[1]]) == 0
    output = capsys.readouterr().out
    assert says in output
    assert "\x1b[31m" not in output


def test_malformed_spans_are_mentioned(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A SERVER span without an identity is no request, and not passed over in silence."""
    Path(files[1]).write_bytes(payload(span(http(), number=0)))
    assert main(["preview", "--config", files[0], "--input", files[1]]) == 0
    assert "1 SERVER span without valid ids" in capsys.readouterr().out


def test_conditions_that_failed_are_mentioned(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A condition that could say neither true nor false is told of, because it bills nobody."""
    text = CONFIG.replace(
        "event_name: tokens", 'event_name: tokens\n        match: {condition: "attributes.tokens > 0.5"}'
    )
    Path(files[0]).write_text(text)
    assert main(["preview", "--config", files[0], "--input", files[1]]) == 0
    assert "tokens: its condition failed for 1 request, which counts as false" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(("name", "says"), [("absent.pb", "No such file"), ("usageflow.yaml", "offset 0")])
def test_input_that_cannot_be_read_exits_1(
    name: str, says: str, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the file and what is wrong with it, on standard error."""
    assert main(["preview", "--config", files[0], "--input", str(tmp_path / name)]) == 1
    output = capsys.readouterr()
    assert (name in output.err, says in output.err, output.out) == (True, True, "")


def test_a_secret_of_a_policy_is_needed(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are not hashed with a stand-in: without its secret there is no preview."""
    monkeypatch.delenv("HASH_SECRET", raising=False)
    text = CONFIG.replace(
        "{header: x-account-id}",
        "{api_key: {header: x-account-id, hash: hmac-sha256, secret: '${env:HASH_SECRET}'}}",
        1,
    )
    Path(files[0]).write_text(text)
    assert main(["preview", "--config", files[0], "--input", files[1]]) == 1
    assert "user::api_key::secret" in capsys.readouterr().err
    monkeypatch.setenv("HASH_SECRET", "s3cret")
    assert main(["preview", "--config", files[0], "--input", files[1]]) == 0


def test_of_several_processors_one_is_chosen(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """With two sets of policies it has to be said which one bills."""
    rule = "{name: b, endpoint: '* /**', user: {query: a}, customer: {id: true}, event_name: b}"
    pipeline = "{receivers: [otlp], processors: [usage_policy/b], exporters: [debug]}"
    sets = ["--set", f"processors::usage_policy/b={{policies: [{rule}]}}"]
    sets += ["--set", f"service::pipelines::traces/b={pipeline}"]
    arguments = ["preview", "--config", files[0], *sets, "--input", files[1], "--format", "json"]
    assert main(arguments) == 1
    assert "choose one with --processor: usage_policy, usage_policy/b" in capsys.readouterr().err
    assert main([*arguments, "--processor", "usage_policy/b"]) == 0
    assert {one["policy"] for one in json.loads(capsys.readouterr().out)["quarantined"]} == {"b"}
    assert main([*arguments, "--processor", "usage_policy/c"]) == 1
