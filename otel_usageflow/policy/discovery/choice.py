"""Which place a starter policy takes its user from, and how a policy writes that."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from otel_usageflow.policy.discovery.count import EndpointCount
from otel_usageflow.policy.discovery.facts import Place, could_be_user, path_parameter, path_places
from otel_usageflow.policy.discovery.template import Template
from otel_usageflow.policy.sources.catalogue import UserSource

_TRUST: Final = (
    "metadata",
    "header",
    "jwt",
    "api_key",
    "bearer",
    "client_certificate",
    "basic_auth",
    "path",
    "body",
    "query_key",
    "query",
    "baggage",
    "cookie",
    "resource",
)
"""Sources, those first whose answer a caller can least make up."""
_WITHOUT_SCHEME: Final = Place("api_key", "authorization")
"""Told, but for people to decide: whether every caller leaves the scheme out cannot be seen from some spans."""
_SOURCE: Final[TypeAdapter[Any]] = TypeAdapter(UserSource)


def source_of(place: Place) -> dict[str, Any]:
    """What stands under `user` in a policy for this place."""
    name = place.name
    special: Mapping[str, dict[str, Any]] = {
        "api_key": {"api_key": {"header": name}},
        "bearer": {"api_key": {"header": name, "scheme": "bearer"}},
        "query_key": {"api_key": {"query": name}},
        "jwt": {"jwt": {"claim": name, "verify": "none"}},
        "path": {"path": path_parameter(place)},
        "resource": {"metadata": name, "scope": "resource"},
    }
    return special.get(place.source, {place.source: name})


def can_be_written(place: Place) -> bool:
    """Whether a policy can read this place."""
    try:
        _SOURCE.validate_python(source_of(place))
    except ValidationError:
        return False
    return True


def rank(place: Place) -> tuple[int, int, str]:
    """Sorts places: what could name a user first, and of that what can least be made up."""
    return (0 if could_be_user(place) else 1, _TRUST.index(place.source), place.name)


def choose(template: Template, count: EndpointCount) -> list[tuple[Place, int]]:
    """The places that could name the user of an endpoint's requests, with on how many they stand; the best first.

    What stands on at least half as many requests as the most frequent one comes before what does not.
    """
    known = set(path_places(template).values())
    places = [
        (place, number)
        for place, number in count.usable.items()
        if could_be_user(place)
        and place != _WITHOUT_SCHEME
        and (place.source != "path" or place in known)
        and can_be_written(place)
    ]
    most = max((number for _, number in places), default=0)
    return sorted(places, key=lambda one: (2 * one[1] < most, rank(one[0]), -one[1]))
