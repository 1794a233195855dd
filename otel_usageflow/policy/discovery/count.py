"""What is counted while recorded spans are read: endpoints, and places of users, within fixed memory."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from otel_usageflow.model.arrivals import Arrivals
from otel_usageflow.policy.discovery.facts import Fact, Place
from otel_usageflow.policy.discovery.template import Template

MOST_DISTINCT: Final = 1_000
"""Distinct values that are counted exactly; of more is only known that there are more."""
MOST_SAMPLES: Final = 5
LONGEST_SAMPLE: Final = 80
OTHERS: Final = "(others)"
"""Stands for the services and instrumentation scopes beyond the most that are kept."""

EndpointKey = tuple[str | None, Template]
"""Method, path. A gRPC call has the method `GRPC`, and as its path service and method."""
GRPC: Final = "grpc"
Status = int | str | None
"""An HTTP status code, or the name of a gRPC status."""


_SUCCESS: Final[frozenset[Status]] = frozenset((*range(200, 300), "OK"))


@dataclass(slots=True)
class PlaceCount:
    """What stands at one place, over all requests."""

    requests: int = 0
    usable: int = 0
    """Requests of which a policy could take the user from here."""
    redacted: int = 0
    distinct: set[int] = field(default_factory=set)
    """Hashes of the values, never the values."""
    samples: list[str] = field(default_factory=list)
    """A few of the values, only where they were asked for."""

    @property
    def over(self) -> bool:
        """Whether there are more distinct values than were counted."""
        return len(self.distinct) > MOST_DISTINCT

    def add(self, fact: Fact, *, keep_value: bool) -> None:
        """Count what one request has here."""
        self.requests += 1
        self.redacted += fact.redacted
        if fact.text is None:
            return
        self.usable += 1
        if len(self.distinct) <= MOST_DISTINCT:
            self.distinct.add(hash(fact.text))
        if keep_value and len(self.samples) < MOST_SAMPLES and fact.text[:LONGEST_SAMPLE] not in self.samples:
            self.samples.append(fact.text[:LONGEST_SAMPLE])


@dataclass(slots=True)
class EndpointCount:
    """One endpoint."""

    requests: int = 0
    statuses: Counter[Status] = field(default_factory=Counter)
    services: Counter[str] = field(default_factory=Counter)
    usable: Counter[Place] = field(default_factory=Counter)
    """Place -> requests of this endpoint whose user could be taken from there."""
    shared: set[str] = field(default_factory=set)
    """Services that report the same requests, one behind the other."""
    of_framework: bool = False
    """Whether the framework's route named it."""

    def merge(self, other: "EndpointCount") -> None:
        """Add another endpoint that turned out to be this one."""
        self.requests += other.requests
        self.statuses += other.statuses
        self.services += other.services
        self.usable += other.usable
        self.shared |= other.shared
        self.of_framework |= other.of_framework

    @property
    def billable(self) -> int:
        """Requests that the rule `2xx` bills."""
        return sum(count for status, count in self.statuses.items() if status in _SUCCESS)

    def statuses_in_order(self) -> list[tuple[Status, int]]:
        """How many requests have each status; those without one come first."""
        return sorted(self.statuses.items(), key=lambda one: (one[0] is not None, str(one[0])))


@dataclass(slots=True)
class Findings:
    """What recorded spans hold."""

    spans: int = 0
    """Every span that was read, also one that comes twice."""
    requests: int = 0
    malformed: int = 0
    """SERVER spans without valid ids."""
    nested: int = 0
    """SERVER spans that are the inner ones of a request."""
    no_http: int = 0
    """SERVER spans that are neither HTTP requests nor gRPC calls that say their method."""
    without_path: int = 0
    """Requests with neither path nor route."""
    not_found: int = 0
    """Requests without a route that were answered with 404, at paths that never answered anything else."""
    further: int = 0
    """Requests of endpoints beyond the most that are kept."""
    unnamed: int = 0
    """How often a place was met beyond the most that are kept."""
    endpoints: dict[EndpointKey, EndpointCount] = field(default_factory=dict)
    places: dict[Place, PlaceCount] = field(default_factory=dict)
    scopes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(service, scope) -> requests."""
    doubled: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(service, scope, other scope) -> requests that both reported."""
    crossed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(service, other service) -> requests that both reported, one behind the other."""
    arrivals: dict[str, Arrivals] = field(default_factory=dict)
    """Service -> what its SERVER spans tell of requests that did not arrive."""
    cut_short: int = 0
    """SERVER spans that say that attributes of them were dropped."""
    headers: bool = False
    """Whether any request header was captured."""
