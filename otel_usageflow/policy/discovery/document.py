"""What was found, as the object that `discover --format json` prints, in an order that does not change."""

from typing import Any

from otel_usageflow.policy.discovery.choice import can_be_written, rank, source_of
from otel_usageflow.policy.discovery.count import EndpointCount, EndpointKey, Findings, PlaceCount
from otel_usageflow.policy.discovery.facts import Place, could_be_user
from otel_usageflow.policy.discovery.kind import EndpointKind, kind_of
from otel_usageflow.policy.discovery.remarks import remarks
from otel_usageflow.policy.discovery.template import written


def endpoints_in_order(found: Findings) -> list[tuple[EndpointKey, EndpointCount, EndpointKind]]:
    """The endpoints, those with the most requests first."""
    lines = [(key, count, kind_of(key, count)) for key, count in found.endpoints.items()]
    return sorted(lines, key=lambda one: (-one[1].requests, written(one[0][1]), one[0][0] or ""))


def places_in_order(found: Findings) -> list[tuple[Place, PlaceCount]]:
    """The places, those that could name a user first."""
    return sorted(found.places.items(), key=lambda one: (rank(one[0])[0], -one[1].usable, rank(one[0])))


def as_json(found: Findings, *, values: bool) -> dict[str, Any]:
    """All that was found.

    Args:
        found: by the survey.
        values: whether a few of the values are in it; keys, tokens and cookies never are.
    """
    return {
        "spans": found.spans,
        "requests": found.requests,
        "nested": found.nested,
        "malformed": found.malformed,
        "endpoints": [_endpoint(*line) for line in endpoints_in_order(found)],
        "not_found_requests": found.not_found,
        "further_requests": found.further,
        "places": [_place(place, count, values=values) for place, count in places_in_order(found)],
        "remarks": [remark._asdict() for remark in remarks(found)],
    }


def _endpoint(key: EndpointKey, count: EndpointCount, kind: EndpointKind) -> dict[str, Any]:
    return {
        "method": key[0],
        "path": written(key[1]),
        "kind": kind.value,
        "requests": count.requests,
        "statuses": {
            "none" if status is None else str(status): number for status, number in count.statuses_in_order()
        },
        "services": dict(sorted(count.services.items())),
    }


def _place(place: Place, count: PlaceCount, *, values: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "source": place.source,
        "name": place.name,
        "could_be_user": could_be_user(place),
        "requests": count.requests,
        "usable": count.usable,
        "redacted": count.redacted,
        "distinct": len(count.distinct) - count.over,
        "more_distinct": count.over,
        "user": source_of(place) if can_be_written(place) else None,
    }
    return told | ({"values": count.samples} if values else {})
