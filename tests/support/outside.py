"""The command from outside: configurations as files, spans of the official message types, and what is printed.

Nothing in here, and in the tests that use it, knows how the package is built.
"""

import contextlib
import io
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_usageflow.cli import main

SERVER = Span.SPAN_KIND_SERVER
END = 1_790_000_000_000_000_000
_ids = itertools.count(1)

EXAMPLE = """\
receivers:
  otlp:
    protocols:
      grpc: {endpoint: 127.0.0.1:4317}
      http: {endpoint: 127.0.0.1:4318}

processors:
  usage_policy:
    policies:
      - name: chat
        endpoint: POST /v1/chat/completions
        user: {header: x-account-id}
        customer: {metadata_field: account_id}
        event_name: api_request

exporters:
  stripe_meter:
    api_key: ${env:STRIPE_API_KEY}
    sending_queue: {storage: sqlite_storage}

extensions:
  sqlite_storage: {directory: ./usageflow-data}
  health_check: {endpoint: 127.0.0.1:13133}

service:
  extensions: [sqlite_storage, health_check]
  pipelines:
    traces:
      receivers: [otlp]
      processors: [usage_policy]
      exporters: [stripe_meter]
"""
"""The configuration of the contract."""


@dataclass(frozen=True)
class Result:
    """What a command did."""

    status: int
    out: str
    err: str


def command(*arguments: object, stdin: bytes = b"") -> Result:
    """Run the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _stdin(stdin):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return Result(status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _stdin(data: bytes) -> Iterator[None]:
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(data))
    try:
        yield
    finally:
        sys.stdin = before


def changed(text: str, **sections: Any) -> str:
    """A configuration with other contents; `a__b` is the key `b` below `a`, None takes a key away."""
    tree = yaml.safe_load(text)
    for path, value in sections.items():
        below, keys = tree, path.split("__")
        for key in keys[:-1]:
            below = below[int(key) if key.isdigit() else key]
        if value is None:
            del below[keys[-1]]
        else:
            below[int(keys[-1]) if keys[-1].isdigit() else keys[-1]] = value
    return yaml.safe_dump(tree, sort_keys=False)


def policy(**keys: Any) -> dict[str, Any]:
    """The contract's policy, for `POST /chat`, with other keys."""
    return {
        "name": "chat",
        "endpoint": "POST /chat",
        "user": {"header": "x-account-id"},
        "customer": {"metadata_field": "account_id"},
        "event_name": "api_request",
        **keys,
    }


def value(of: Any) -> AnyValue:
    """An OTLP value."""
    match of:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=of)
        case int():
            return AnyValue(int_value=of)
        case float():
            return AnyValue(double_value=of)
        case str():
            return AnyValue(string_value=of)
        case _:
            made = AnyValue()
            made.array_value.values.extend(map(value, of))
            return made


def span(attributes: Mapping[str, Any], **fields: Any) -> Span:
    """A SERVER span without a parent, of a trace of its own."""
    number = next(_ids)
    return Span(
        **{
            "trace_id": number.to_bytes(16, "big"),
            "span_id": number.to_bytes(8, "big"),
            "kind": SERVER,
            "flags": 0x100,
            "start_time_unix_nano": END - 1_000_000,
            "end_time_unix_nano": END,
            "attributes": [KeyValue(key=key, value=value(one)) for key, one in attributes.items()],
            **fields,
        }
    )


def request(
    path: str | None = "/chat", *, method: str = "POST", status: Any = 200, user: Any = "acme", **more: Any
) -> dict[str, Any]:
    """Attributes of a request in today's conventions; `a__b` in the names of others is `a.b`."""
    found = {
        "http.request.method": method,
        "url.path": path,
        "http.response.status_code": status,
        "http.request.header.x-account-id": None if user is None else [user],
        **{key.replace("__", "."): one for key, one in more.items()},
    }
    return {key: one for key, one in found.items() if one is not None}


def export(
    *spans: Span, service: str = "shop", scope: str = "instrumentation", resource: Mapping[str, Any] | None = None
) -> bytes:
    """An export request with these spans."""
    made = ExportTraceServiceRequest()
    resource_spans = made.resource_spans.add()
    for key, one in {"service.name": service, **(resource or {})}.items():
        resource_spans.resource.attributes.append(KeyValue(key=key, value=value(one)))
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = scope
    scope_spans.spans.extend(spans)
    return made.SerializeToString()


def preview_of(data: bytes, policies: Sequence[Mapping[str, Any]], **processor: Any) -> dict[str, Any]:
    """What `preview --format json` prints for recorded spans."""
    text = changed(EXAMPLE, processors__usage_policy={"policies": list(policies), **processor})
    with tempfile.TemporaryDirectory() as directory:
        config, spans = Path(directory, "usageflow.yaml"), Path(directory, "spans.pb")
        config.write_text(text)
        spans.write_bytes(data)
        result = command("preview", "--config", config, "--input", spans, "--format", "json")
    assert result.status == 0, result.err
    printed: dict[str, Any] = json.loads(result.out)
    return printed


def outcome(attributes: Mapping[str, Any], *, resource: Mapping[str, Any] | None = None, **keys: Any) -> str:
    """What becomes of one request under one policy: `user=quantity`, a reason, or `unmatched`."""
    told = preview_of(export(span(attributes), resource=resource), [policy(**keys)])
    found = [f"{line['user']}={line['quantity']}" for line in told["usage"]]
    found += [line["reason"] for line in (*told["quarantined"], *told["unbilled"])]
    found += ["unmatched"] * told["unmatched_requests"]
    assert len(found) == 1, told
    return found[0]


def user(attributes: Mapping[str, Any], source: Any, **more: Any) -> str | None:
    """The user that a source finds on a request."""
    found = outcome(attributes, user=source, **more)
    return None if found == "no_user" else found.removesuffix("=1")
