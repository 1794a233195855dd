"""Which endpoints are worth billing, and what the others are."""

from enum import StrEnum
from typing import Final

from otel_usageflow.policy.discovery.count import GRPC, EndpointCount, EndpointKey
from otel_usageflow.policy.discovery.template import is_static
from otel_usageflow.policy.endpoint import Part

_HEALTH: Final = frozenset(
    """
    health healthz healthcheck health-check health_check _health livez readyz liveness readiness startupz
    startup ping metrics heartbeat alive actuator
    """.split()  # noqa: SIM905  (a list would be one word a line)
)
_ASSETS: Final = frozenset(
    """
    static assets public dist images img css js fonts media favicon.ico robots.txt
    """.split()  # noqa: SIM905  (a list would be one word a line)
)


class EndpointKind(StrEnum):
    """What an endpoint is."""

    API = "api"
    HEALTH = "health"
    STATIC = "static"
    OPTIONS = "options"
    HEAD = "head"
    UNSUCCESSFUL = "unsuccessful"


REASONS: Final = {
    EndpointKind.HEALTH: "a health check",
    EndpointKind.STATIC: "a static file",
    EndpointKind.OPTIONS: "asks what is allowed",
    EndpointKind.HEAD: "asks without wanting an answer",
    EndpointKind.UNSUCCESSFUL: "no request succeeded (2xx, of gRPC OK)",
}
"""Why an endpoint is left out of the starter file."""


def kind_of(key: EndpointKey, count: EndpointCount) -> EndpointKind:
    """Judge by method, words and statuses."""
    method, template = key
    words = [segment.text.lower() for segment in template if segment.part is Part.LITERAL]
    if method == GRPC and words[0].startswith("grpc.health."):
        return EndpointKind.HEALTH
    if method in {"OPTIONS", "HEAD"}:
        return EndpointKind(method.lower())
    if method == "GET" and len(template) <= 2 and _HEALTH.intersection(words):
        return EndpointKind.HEALTH
    if method == "GET" and words and (words[0] in _ASSETS or is_static(words[-1])):
        return EndpointKind.STATIC
    return EndpointKind.API if count.billable else EndpointKind.UNSUCCESSFUL
