"""`discover` on spans that real servers really sent: the same endpoints whatever the stack, and a file that bills."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from outside import Result, command

CAPTURES = Path(__file__).parents[1] / "captures"
FILES = sorted([*CAPTURES.glob("*.pb"), *CAPTURES.glob("*.jsonl")])
COMMON = {
    ("GET", "/by/any", "api"),
    ("GET", "/by/baggage", "api"),
    ("GET", "/by/basic", "api"),
    ("GET", "/by/bearer", "api"),
    ("GET", "/by/cookie", "api"),
    ("GET", "/by/header", "api"),
    ("GET", "/by/jwt", "api"),
    ("GET", "/by/key", "api"),
    ("GET", "/by/query", "api"),
    ("GET", "/by/redacted", "api"),
    ("GET", "/by/transform", "api"),
    ("GET", "/fail", "unsuccessful"),
    ("GET", "/healthz", "health"),
    ("GET", "/lookup/{}", "api"),
    ("GET", "/organisations/{}/items", "api"),
    ("GET", "/orgs/{}/items", "api"),
    ("HEAD", "/by/header", "head"),
    ("OPTIONS", "/by/header", "options"),
    ("POST", "/by/body", "api"),
    ("POST", "/by/metadata", "api"),
    ("POST", "/chat/completions", "api"),
}
"""Method, path without the names of its parameters, kind."""
SPELLED = {
    ("GET", f"/{path}", "api")
    for path in (
        *("by/template/p1", "by/template/{}", "mounted/items", "items", "lookup/lines"),
        *("orgs/{}/b/items", "orgs/{}/{}/items", "orgs/*org"),
    )
}
"""What comes of the other requests of the traffic, as routes and paths say it: slashes in parameters, mounts."""
MAPPED = {
    f"/{name}": f"/{name.split('/')[0]}/*id" for name in ("lookup/{}", "organisations/{}/items", "orgs/{}/items")
}
"""A plain servlet's route is its mapping, which ends in an asterisk."""
BEST = {
    "GET /by/bearer": {"api_key": {"header": "authorization", "scheme": "bearer"}},
    "GET /by/header": {"header": "x-account-id"},
    "GET /by/jwt": {"jwt": {"claim": "sub", "verify": "none"}},
    "GET /by/key": {"api_key": {"header": "x-api-key"}},
    "GET /by/query": {"query": "account"},
    "POST /by/body": {"body": "user.account_id"},
    "POST /by/metadata": {"metadata": "enduser.id"},
    "POST /chat/completions": {"header": "x-account-id"},
}
PROTOBUF = [file for file in FILES if file.suffix == ".pb"]
NO_QUERY = {"django-wsgiref-http"}
"""Its spans have no query."""


BARE = {"fastapi-native", "otelhttp-current"}
"""They capture no header; the files `with-remedies` do."""
EXCLUDED = {"fastapi-old", "fastapi-http", "fastapi-dup"}
"""One of their scopes reports nothing but what the other reports."""
DOUBLED = {*EXCLUDED, "otelgin-in-otelhttp-with-remedies-current"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_endpoints_are_those_of_the_traffic(file: Path) -> None:
    """Whatever the stack and its conventions, with a route on the span or without one, in pieces or at once."""
    result = command("discover", "--input", file, "--format", "json")
    assert (result.status, result.err) == (0, "")
    told = json.loads(result.out)
    names = {(one["method"], re.sub(r"\{\w+\}", "{}", one["path"]), one["kind"]) for one in told["endpoints"]}
    mapped = MAPPED if file.stem.startswith("servlet") else {}
    common = {(method, mapped.get(path, path), kind) for method, path, kind in COMMON}
    assert common <= names <= common | SPELLED
    about = {one["about"] for one in told["remarks"]}
    assert about >= ({"no_headers"} if file.stem in BARE else {"jwt", "redacted"})
    assert ("doubled" in about) == (file.stem in DOUBLED)
    counted = sum(one["requests"] for one in told["endpoints"]) + told["not_found_requests"]
    assert counted + (file.stem in NO_QUERY) == told["requests"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_starter_file_bills_the_capture(file: Path, tmp_path: Path) -> None:
    """It validates without a word, takes the place made for each endpoint, and bills each request at most once."""
    output = tmp_path / "policies.yaml"
    assert command("discover", "--input", file, "--output", output).status == 0
    assert command("validate", "--config", output) == Result(0, "", "")
    written = yaml.safe_load(output.read_text())["processors"]["usage_policy"]
    users = {one["endpoint"]: one["user"] for one in written["policies"]}
    known = BEST.keys() - ({"GET /by/query"} if file.stem in NO_QUERY else set())
    if file.stem not in BARE:
        assert {endpoint: users[endpoint] for endpoint in known} == {endpoint: BEST[endpoint] for endpoint in known}
    assert written.get("exclude_scopes", []) == (["fastapi"] if file.stem in EXCLUDED else [])
    result = command("preview", "--config", output, "--input", file, "--format", "json")
    assert (result.status, result.err) == (0, "")
    told: dict[str, Any] = json.loads(result.out)
    parts = ("usage", "quarantined", "unbilled")
    assert (
        sum(line["requests"] for part in parts for line in told[part]) + told["unmatched_requests"]
        == told["requests"]
    )
    assert sum(line["requests"] for line in told["usage"]) >= (
        10 if file.stem in BARE else 30 if file.stem in NO_QUERY else 39
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_user_of_the_traffic_is_told(file: Path, tmp_path: Path) -> None:
    """The users, keys and tokens of the traffic stand in none of the outputs."""
    output = tmp_path / "policies.yaml"
    texts = [command("discover", "--input", file, "--format", form).out for form in ("table", "json")]
    command("discover", "--input", file, "--output", output)
    program = "from credentials import *; print(KEY_ACME, KEY_GLOBEX, BEARER_GLOBEX, token('acme'))"
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=CAPTURES, capture_output=True, text=True, check=True
    )
    for text in (*texts, output.read_text()):
        for value in ("acme", "globex", "initech", "café", "ghost", *done.stdout.split()):
            assert value not in text


@pytest.mark.parametrize("file", PROTOBUF, ids=lambda file: file.stem)
def test_order_and_batches_do_not_matter(file: Path) -> None:
    """Each span in an export request of its own, last span first, and all of it twice: the same is found."""
    whole, alone = file.read_bytes(), []
    for resource_spans in ExportTraceServiceRequest.FromString(whole).resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                request = ExportTraceServiceRequest()
                resource = request.resource_spans.add(resource=resource_spans.resource)
                resource.scope_spans.add(scope=scope_spans.scope, spans=[span])
                alone.append(request.SerializeToString())

    def told(data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(command("discover", "--input", "-", "--format", "json", stdin=data).out)
        del found["spans"]
        return found

    assert told(b"".join(reversed(alone)) + whole) == told(whole)


def test_the_installed_command(tmp_path: Path) -> None:
    """The command from a shell: tables on standard output, nothing on standard error, a file that is new."""
    output = tmp_path / "policies.yaml"
    arguments = ["discover", "--input", str(CAPTURES / "flask-http.pb"), "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-m", "otel_usageflow", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Could name a user" in done.stdout
    assert output.exists()


def test_grpc_calls_are_endpoints(tmp_path: Path) -> None:
    """Of real servers: the starter file names service and method, and bills the calls that were answered with OK."""
    file, output = CAPTURES / "situations" / "grpc_calls.pb", tmp_path / "policies.yaml"
    told = json.loads(command("discover", "--input", file, "--output", output, "--format", "json").out)
    assert {(one["method"], one["path"], one["kind"]) for one in told["endpoints"]} == {
        ("grpc", "/shop.Orders/Get", "api"),
        ("grpc", "/shop.Orders/Watch", "api"),
    }
    assert {"OK", "NOT_FOUND"} <= told["endpoints"][0]["statuses"].keys()
    assert "no_http" not in {one["about"] for one in told["remarks"]}
    assert command("validate", "--config", output) == Result(0, "", "")
    billed = json.loads(command("preview", "--config", output, "--input", file, "--format", "json").out)
    assert [(line["policy"], line["user"]) for line in billed["usage"]] == [("grpc-shop-orders-get", "acme")]
    assert (billed["requests"], billed["unmatched_requests"]) == (told["requests"], 0)
