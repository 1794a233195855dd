"""What one SERVER span was asked for: an HTTP request's method and path, or a gRPC call's service and method."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from otel_usageflow.model.attributes import Found
from otel_usageflow.policy import grpc, http
from otel_usageflow.policy.calls import parse_any_endpoint
from otel_usageflow.policy.discovery import template as templates
from otel_usageflow.policy.discovery.count import GRPC, Status
from otel_usageflow.policy.endpoint import Part, Segment

KEYS: Final = http.BASE_KEYS | http.QUERY_KEYS | grpc.KEYS
"""What is read from every SERVER span."""
_METHOD: Final = re.compile(r"[A-Z-]{1,20}")
_LONGEST_CALL: Final = 200


class Asked(NamedTuple):
    """What a span was asked for, and what it answered."""

    method: str | None
    """`GRPC` for a gRPC call."""
    template: templates.Template | None
    routed: bool
    """Whether the framework named the template."""
    status: Status
    path: Sequence[str] | None
    """Of an HTTP request, decoded."""


def asked(found: Found, scope: str) -> Asked | None:
    """Read it from a span's attributes; None for what is neither HTTP nor a gRPC call that says its method."""
    if http.is_http(found):
        path, route = http.segments(found, scope), http.route(found)
        method = http.method(found)
        if method is not None and not _METHOD.fullmatch(method):
            method = None  # whoever sent it made it up
        template = templates.of_request(path, route)
        return Asked(method, template, templates.by_route(path, route), http.status(found), path)
    call = _call(found) if grpc.is_grpc(found) else None
    return None if call is None else Asked(GRPC, call, True, grpc.status(found), None)


def _call(found: Found) -> templates.Template | None:
    """Service and method; None where a policy could not name them."""
    name = grpc.full_method(found)
    if name is None or len(name) > _LONGEST_CALL:
        return None
    try:
        parse_any_endpoint(f"{GRPC} {name}")
    except ValueError:
        return None
    return tuple(Segment(Part.LITERAL, part) for part in name.split("/"))
