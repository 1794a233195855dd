"""Traces by hand: a request and the spans below it, of several scopes and services, in any order and batches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span
from span_builder import LOCAL, REMOTE, http, payload, policy, span

from otel_usageflow.policy.config import PolicyConfig

INTERNAL, SERVER, CLIENT, CONSUMER = (
    Span.SPAN_KIND_INTERNAL,
    Span.SPAN_KIND_SERVER,
    Span.SPAN_KIND_CLIENT,
    Span.SPAN_KIND_CONSUMER,
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A span, and where it is reported."""

    span: Span
    service: str = "shop"
    scope: str = "tests"


def request(number: int, parent: int = 0, *, user: str | None = "acme", **where: Any) -> Placed:
    """A request to POST /chat; below `parent`, if that is given, as of another process."""
    attributes = http() | ({} if user is None else {"http.request.header.x-account-id": user})
    flags = where.pop("flags", REMOTE if parent else LOCAL)
    return Placed(span(attributes, number=number, parent=parent or b"", flags=flags), **where)


def below(parent: int, number: int, attributes: Mapping[str, Any] | None = None, **more: Any) -> Placed:
    """A local child span with these attributes."""
    where = {key: more.pop(key) for key in ("service", "scope") if key in more}
    more = {"kind": INTERNAL, "flags": LOCAL} | more
    return Placed(span(attributes or {}, number=number, parent=parent, **more), **where)


def exported(spans: Iterable[Placed]) -> bytes:
    """Export requests, concatenated: one for each span, in this order."""
    return b"".join(payload(one.span, service=one.service, scope=one.scope) for one in spans)


def summing(*keys: str, **more: Any) -> PolicyConfig:
    """A policy for `POST /chat` that sums these attributes over the request's trace; `more` goes into `quantity`."""
    changes = more.pop("changes", {})
    return policy(**{"quantity": {"from": "trace", "attributes": list(keys)} | more} | changes)
