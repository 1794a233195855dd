"""Spans by hand, and policies to judge them: what the tests of the policy engine share."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_usageflow.model.usage import UsageBatch, UsageRecord
from otel_usageflow.policy.config import PolicyConfig
from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.policy.policy import compile_policy
from otel_usageflow.policy.text import PLACEHOLDERS

NOW = 1_800_000_000_000_000_000
REMOTE = 0x300
LOCAL = 0x100
PARENT = b"parent-1"

_ids = itertools.count(1)


def any_value(value: Any) -> AnyValue:
    """An OTLP value of a Python one."""
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case str():
            return AnyValue(string_value=value)
        case list():
            result = AnyValue()
            result.array_value.values.extend(any_value(element) for element in value)
            result.array_value.SetInParent()
            return result
        case dict():
            result = AnyValue()
            result.kvlist_value.values.extend(key_value(key, one) for key, one in value.items())
            result.kvlist_value.SetInParent()
            return result
    raise TypeError(value)


def key_value(key: str, value: Any) -> KeyValue:
    """An OTLP attribute."""
    return KeyValue(key=key, value=any_value(value))


def span(
    attributes: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
    *,
    number: int | None = None,
    parent: bytes | int = b"",
    flags: int = REMOTE,
    kind: int = Span.SPAN_KIND_SERVER,
    start: int = NOW - 2_000_000_000,
    end: int = NOW - 1_000_000_000,
) -> Span:
    """A SERVER span that enters its process; `number` and a number as `parent` are within one trace."""
    number = next(_ids) if number is None else number
    pairs = attributes.items() if isinstance(attributes, Mapping) else attributes
    return Span(
        trace_id=bytes(15) + b"\x01",
        span_id=number.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if isinstance(parent, int) else parent,
        name="a span",
        kind=kind,
        flags=flags,
        start_time_unix_nano=start,
        end_time_unix_nano=end,
        attributes=[key_value(key, value) for key, value in pairs],
    )


def http(path: str = "/chat", *, method: str = "POST", status: int | None = 200, **more: Any) -> dict[str, Any]:
    """Attributes in stable conventions; further ones with `__` for dots."""
    attributes: dict[str, Any] = {"http.request.method": method, "url.path": path}
    if status is not None:
        attributes["http.response.status_code"] = status
    return attributes | {key.replace("__", "."): value for key, value in more.items()}


def payload(
    *spans: Span, service: str | None = "shop", scope: str = "tests", resource: Mapping[str, Any] | None = None
) -> bytes:
    """One export request with all spans in one scope."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    named = {} if service is None else {"service.name": service}
    for key, value in {**named, **(resource or {})}.items():
        resource_spans.resource.attributes.append(key_value(key, value))
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = scope
    scope_spans.spans.extend(spans)
    return request.SerializeToString()


def policy(**changes: Any) -> PolicyConfig:
    """A policy for `POST /chat` by a header; `changes` replace keys, None removes one."""
    written: dict[str, Any] = {
        "name": "chat",
        "endpoint": "POST /chat",
        "user": {"header": "x-account-id"},
        "customer": {"metadata_field": "account_id"},
        "event_name": "api_request",
    } | changes
    return PolicyConfig.model_validate({key: value for key, value in written.items() if value is not None})


def engine(
    *policies: PolicyConfig, placeholders: Iterable[str] = (), exclude_scopes: Iterable[str] = ()
) -> PolicyEngine:
    """Compile policies."""
    texts = PLACEHOLDERS.union(placeholders)
    return PolicyEngine([compile_policy(one, texts) for one in policies], frozenset(exclude_scopes))


def judge(attributes: Any, *policies: PolicyConfig, **where: Any) -> UsageBatch:
    """What the policies make of one request with these attributes."""
    return engine(*policies).evaluate(payload(span(attributes), **where), NOW)


def only(batch: UsageBatch) -> UsageRecord:
    """The one record of a batch."""
    (record,) = batch.records
    return record


def user_of(attributes: Any, user: Any, **where: Any) -> str | None:
    """Whom a source finds on a request to POST /chat that also carries these attributes."""
    pairs = list(attributes.items()) if isinstance(attributes, Mapping) else list(attributes)
    return only(judge([*http().items(), *pairs], policy(user=user), **where)).user
