"""`otel-usageflow discover`: endpoints, possible users, what is missing, and a starter configuration."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from outside import Result, command
from span_builder import http, payload, span

from otel_usageflow.policy.discovery import endpoints, survey
from otel_usageflow.policy.discovery.count import MOST_DISTINCT


def discover(data: bytes, *more: object) -> Result:
    return command("discover", "--input", "-", *more, stdin=data)


def found(data: bytes, *more: object) -> dict[str, Any]:
    result = discover(data, "--format", "json", *more)
    assert (result.status, result.err) == (0, "")
    told: dict[str, Any] = json.loads(result.out)
    return told


def place(told: dict[str, Any], source: str, name: str) -> dict[str, Any]:
    (one,) = [one for one in told["places"] if (one["source"], one["name"]) == (source, name)]
    return dict(one)


def remarks(told: dict[str, Any]) -> set[str]:
    return {one["about"] for one in told["remarks"]}


HEADER = "http.request.header."
SPANS = payload(
    span(http("/users/zoe", method="GET") | {HEADER + "x-account-id": ["acme"], "enduser.id": "u1"}),
    span(http("/users/ann", method="GET") | {HEADER + "x_account_id": ["globex"]}),
    span(http("/users/ann", method="GET", status=404) | {HEADER + "x-account-id": ["****"]}),
    span(http("/chat", url__query="account=acme&page=2") | {HEADER + "authorization": ["Bearer s3cr3t"]}),
    span(http("/healthz", method="GET")),
    span(http("/chat", method="OPTIONS", status=204)),
    span(http("/static/app.css", method="GET")),
    span(http("/nothing", method="GET", status=404)),
    span(http("/broken", status=500)),
    span({"rpc.system": "grpc"}),
    span({}, kind=1),
)


def test_the_object() -> None:
    """Endpoints by method and template, with kinds and statuses; places with requests and distinct values."""
    told = found(SPANS)
    assert (told["spans"], told["requests"], told["not_found_requests"]) == (11, 9, 1)
    assert [
        (one["method"], one["path"], one["kind"], one["requests"], one["statuses"]) for one in told["endpoints"]
    ] == [
        ("GET", "/users/{id}", "api", 3, {"200": 2, "404": 1}),
        ("POST", "/broken", "unsuccessful", 1, {"500": 1}),
        ("OPTIONS", "/chat", "options", 1, {"204": 1}),
        ("POST", "/chat", "api", 1, {"200": 1}),
        ("GET", "/healthz", "health", 1, {"200": 1}),
        ("GET", "/static/{id}", "static", 1, {"200": 1}),
    ]
    assert told["endpoints"][0]["services"] == {"shop": 3}
    assert place(told, "header", "x-account-id") == {
        "source": "header",
        "name": "x-account-id",
        "could_be_user": True,
        "requests": 3,
        "usable": 2,
        "redacted": 1,
        "distinct": 2,
        "more_distinct": False,
        "user": {"header": "x-account-id"},
    }
    assert place(told, "path", "users/{id}")["distinct"] == 2
    assert place(told, "bearer", "authorization")["user"] == {
        "api_key": {"header": "authorization", "scheme": "bearer"}
    }
    assert not place(told, "query", "page")["could_be_user"]
    assert {"redacted", "not_found", "no_http"} <= remarks(told)
    assert "no_headers" not in remarks(told)


def test_values_are_shown_only_when_asked_for() -> None:
    """Without --values no value is printed; with it a few are, but never a key or a token."""
    for form in ("json", "table"):
        without, asked = discover(SPANS, "--format", form).out, discover(SPANS, "--format", form, "--values").out
        for value in ("acme", "globex", "u1", "zoe", "ann"):
            assert value not in without
            assert value in asked
        assert "s3cr3t" not in asked


def test_distinct_values_are_counted_up_to_a_limit() -> None:
    """Beyond the limit it is said that there are more; the memory that they take does not grow."""
    data = payload(*(span(http() | {"enduser.id": f"user {n}"}) for n in range(MOST_DISTINCT + 50)))
    one = place(found(data), "metadata", "enduser.id")
    assert (one["distinct"], one["more_distinct"], one["usable"]) == (MOST_DISTINCT, True, MOST_DISTINCT + 50)
    assert f"over {MOST_DISTINCT}" in discover(data).out


@pytest.mark.parametrize(
    ("data", "about", "says"),
    [
        (b"", "no_spans", "no spans"),
        (payload(span({"a": 1})), "no_requests", "http.*"),
        (payload(span(http())), "no_headers", "docs/capturing.md"),
        (payload(span(http())), "no_user", "enduser.id"),
        (payload(span({"http.request.method": "GET"})), "without_path", "/**"),
        (payload(span(http(), number=0)), "malformed", "no valid ids"),
    ],
)
def test_what_is_missing_is_said(data: bytes, about: str, says: str) -> None:
    """Every remark has a word for machines and a sentence that says what to do."""
    assert about in remarks(found(data))
    assert says in discover(data).out


def test_nested_spans_are_one_request() -> None:
    """An inner SERVER span is not counted again, whichever comes first and however it is known."""
    outer = span(http(), number=901, flags=0)
    unflagged = span(http(), number=902, parent=901, flags=0)
    local = span(http(), number=903, parent=901, flags=0x100)
    for order in ((outer, unflagged, local), (local, unflagged, outer)):
        told = found(b"".join(payload(one) for one in order))
        assert (told["requests"], told["nested"]) == (1, 2)
        assert "nested" in remarks(told)


def test_a_span_that_comes_twice_is_one() -> None:
    """A concatenated recording counts once."""
    once, twice = found(SPANS), found(SPANS * 2)
    assert twice.pop("spans") == 2 * once.pop("spans")
    assert twice == once


def test_double_instrumentation_is_noticed(tmp_path: Path) -> None:
    """Two scopes that report one request in traces of their own: the starter file leaves the smaller one out."""
    outer = span(http() | {HEADER + "x-account-id": ["acme"]}, start=100, end=200)
    alone = span(http("/other"), start=100, end=200)
    inner = span(http(), start=110, end=190)
    inner.trace_id = b"\x02" * 16
    data = payload(outer, alone, scope="big") + payload(inner, scope="small")
    assert "doubled" in remarks(found(data))
    output = tmp_path / "starter.yaml"
    assert discover(data, "--output", output).status == 0
    assert yaml.safe_load(output.read_text())["processors"]["usage_policy"]["exclude_scopes"] == ["small"]


def test_a_proxy_before_the_service_is_noticed(tmp_path: Path) -> None:
    """Two services that report one request: the starter file bills one of them."""
    data = payload(span(http()), service="gateway") + payload(span(http(), parent=b"client-1"), service="shop")
    assert "crossed" in remarks(found(data))
    output = tmp_path / "starter.yaml"
    assert discover(data, "--output", output).status == 0
    (policy,) = yaml.safe_load(output.read_text())["processors"]["usage_policy"]["policies"]
    assert policy["match"] == {"service": "shop"}
    spans = tmp_path / "spans.pb"
    spans.write_bytes(data)
    told = json.loads(command("preview", "--config", output, "--input", spans, "--format", "json").out)
    assert [one["requests"] for one in told["quarantined"]] == [1]


def test_the_starter_file(tmp_path: Path) -> None:
    """One policy for each endpoint worth billing, by its best place; the others are comments; preview takes it."""
    output, spans = tmp_path / "policies.yaml", tmp_path / "spans.pb"
    spans.write_bytes(SPANS)
    result = command("discover", "--input", spans, "--output", output)
    assert (result.status, result.err) == (0, "")
    assert f"preview --config {output} --input {spans}" in result.out
    text = output.read_text()
    tree = yaml.safe_load(text)
    chosen = {one["endpoint"]: one["user"] for one in tree["processors"]["usage_policy"]["policies"]}
    assert chosen == {
        "POST /chat": {"api_key": {"header": "authorization", "scheme": "bearer"}},
        "GET /users/{id}": {"header": "x-account-id"},
    }
    for line in (
        "OPTIONS /chat: asks",
        "GET /healthz: a health check",
        "GET /static/{id}: a static file",
        "POST /broken: no request",
    ):
        assert f"    #   {line}" in text
    assert command("validate", "--config", output) == Result(0, "", "")
    told = json.loads(command("preview", "--config", output, "--input", spans, "--format", "json").out)
    assert sum(one["requests"] for one in told["usage"]) == 3
    assert command("discover", "--input", spans, "--output", output).status == 1
    assert output.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--input", "{}/absent.pb"], "No such file"),
        (["--input", "{}"], "Is a directory"),
        (["--input", "{}/spans.pb", "--output", "{}/absent/x.yaml"], "cannot be written"),
        (["--input", "{}/spans.pb", "--config", "x"], "--config"),
        (["--input", "{}/text"], "offset 0"),
    ],
)
def test_errors_name_the_file(arguments: list[str], says: str, tmp_path: Path) -> None:
    """What cannot be read or written is said in one line, with status 1 and nothing on standard output."""
    (tmp_path / "spans.pb").write_bytes(SPANS)
    (tmp_path / "text").write_text("hello")
    result = command("discover", *(one.format(tmp_path) for one in arguments))
    assert (result.status, result.out) == (1, "")
    assert says in result.err
    assert result.err.count("\n") <= 2


def test_paths_that_were_never_found_fill_no_table() -> None:
    """A scanner's paths are one number, and do not turn real endpoints into parameters."""
    scans = [span(http(f"/wp-{chr(97 + n % 26)}{chr(97 + n // 26)}", status=404)) for n in range(600)]
    told = found(payload(*scans, span(http("/chat")), span(http("/chat", status=404))))
    assert [(one["path"], one["requests"]) for one in told["endpoints"]] == [("/chat", 2)]
    assert told["not_found_requests"] == 600


def test_many_words_at_one_place_are_a_parameter() -> None:
    """Endpoints that differ only where too many words stand are one endpoint in the end."""
    names = [f"shop-{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(300)]
    told = found(payload(*(span(http(f"/by/{name}/items")) for name in names)))
    assert [(one["path"], one["requests"]) for one in told["endpoints"]] == [("/by/{id}/items", 300)]


def test_memory_does_not_grow_with_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever callers make up, only so many endpoints, places and services are kept; the others are counted."""
    for name, most in (("MOST_PLACES", 30), ("MOST_NAMES", 5), ("MOST_REMEMBERED", 10)):
        monkeypatch.setattr(survey, name, most)
    monkeypatch.setattr(endpoints, "MOST_ENDPOINTS", 20)
    monkeypatch.setattr(survey, "MOST_WAITING", 10)
    words = [f"{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(200)]
    data = b"".join(
        payload(
            span(http(f"/{word}/{word}") | {f"my.{word}": word, "enduser.id": word}, flags=0, parent=b"parent-1"),
            service=word,
        )
        for word in words
    )
    told = found(data)
    assert (told["requests"], told["further_requests"]) == (200, 180)
    assert len(told["endpoints"]) == 20
    assert len(told["places"]) == 30
    assert sum(len(one["services"]) for one in told["endpoints"]) <= 20
    assert {service for one in told["endpoints"] for service in one["services"]} == {*words[:5], "(others)"}
    assert {"further", "unnamed"} <= remarks(told)
    assert place(told, "metadata", "enduser.id")["distinct"] == 200


@pytest.mark.parametrize(
    "attributes",
    [
        http("/" + "a/" * 50_000),
        http("/a", http__route="/" + "{x}/" * 5_000),
        http("/a", method="X" * 100_000),
        http("/a") | {f"{HEADER}cookie": ["; ".join(f"c{n}=1" for n in range(20_000))]},
        http("/a") | {f"my.{n}": n for n in range(5_000)},
        http("/a", url__query="&".join(f"q{n}=1" for n in range(20_000))),
    ],
    ids=["path", "route", "method", "cookies", "attributes", "query"],
)
def test_one_absurd_request_costs_little(attributes: dict[str, Any]) -> None:
    """A request without measure is counted like another one, and what is told of it has a measure."""
    result = discover(payload(span(attributes)), "--format", "json")
    assert (result.status, json.loads(result.out)["requests"]) == (0, 1)
    assert len(result.out) < 100_000
