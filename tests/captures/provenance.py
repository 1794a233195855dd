"""Which SDK and which instrumentations made a capture, read off its spans."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Provenance:
    """The versions that the spans themselves name."""

    language: str
    """`telemetry.sdk.language`."""
    sdk: str
    """Name and version of the SDK."""
    scopes: tuple[str, ...]
    """Name and version of each instrumentation scope, sorted."""


def provenance_of(spans: bytes, is_json: bool) -> Provenance:
    """Read it off export requests: concatenated ones, or one JSON request a line."""
    resource, scopes = ({}, set())  # type: dict[str, str], set[str]
    for attributes, names in _json(spans) if is_json else _protobuf(spans):
        resource |= attributes
        scopes |= set(names)
    language = resource["telemetry.sdk.language"]
    return Provenance(language, f"{language} {resource['telemetry.sdk.version']}", tuple(sorted(scopes)))


def _protobuf(spans: bytes) -> Iterator[tuple[dict[str, str], Iterable[str]]]:
    for each in ExportTraceServiceRequest.FromString(spans).resource_spans:
        attributes = {attribute.key: attribute.value.string_value for attribute in each.resource.attributes}
        yield attributes, [f"{part.scope.name} {part.scope.version}".strip() for part in each.scope_spans]


def _json(spans: bytes) -> Iterator[tuple[dict[str, str], Iterable[str]]]:
    for line in spans.splitlines():
        for each in json.loads(line)["resourceSpans"]:
            attributes = {a["key"]: a["value"].get("stringValue", "") for a in each["resource"]["attributes"]}
            scopes = (part["scope"] for part in each["scopeSpans"])
            yield attributes, [f"{scope['name']} {scope.get('version', '')}".strip() for scope in scopes]
