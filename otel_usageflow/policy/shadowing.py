"""Which earlier policies together take every request of a later one, so that it never bills.

Earlier endpoints stand in a tree of their segments, so that a thousand policies are compared in one walk each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from otel_usageflow.policy.calls import AnyEndpoint, CallEndpoint, Protocol
from otel_usageflow.policy.config import MatchConfig, PolicyConfig
from otel_usageflow.policy.endpoint import Endpoint, Part, Segment

_ONE: Final = Segment(Part.ONE)
_REST: Final = Segment(Part.REST)


@dataclass(slots=True)
class _Place:
    """What is reached by the same segments, whatever their parameters are called."""

    below: dict[Segment, "_Place"] = field(default_factory=dict)
    ends: list[tuple[int, Endpoint]] = field(default_factory=list)
    """(policy, endpoint) of those that end here."""

    def rest(self) -> list[tuple[int, Endpoint]]:
        """Those that take whatever is left of the path from here on."""
        return self.below[_REST].ends if _REST in self.below else []


class Earlier:
    """The policies that were met so far, under one event name."""

    def __init__(self) -> None:
        self._policies: dict[int, MatchConfig] = {}
        self._root = _Place()
        self._calls: dict[tuple[Protocol, str | None, str | None], list[int]] = {}

    def add(self, number: int, policy: PolicyConfig, endpoints: Sequence[AnyEndpoint]) -> None:
        """The next policy, by its position in the set."""
        self._policies[number] = policy.match
        for endpoint in endpoints:
            if isinstance(endpoint, CallEndpoint):
                self._calls.setdefault((endpoint.protocol, endpoint.group, endpoint.name), []).append(number)
                continue
            place = self._root
            for segment in endpoint.segments:
                place = place.below.setdefault(_nameless(segment), _Place())
            place.ends.append((number, endpoint))

    def taking_all_of(self, policy: PolicyConfig, endpoints: Sequence[AnyEndpoint]) -> list[int] | None:
        """The earlier policies that together take every request of this one, or None."""
        by: set[int] = set()
        for endpoint in endpoints:
            for takers in self._takers(endpoint):
                taker = next((one for one in takers if _implies(policy.match, self._policies[one])), None)
                if taker is None:
                    return None
                by.add(taker)
        return sorted(by)

    def _takers(self, narrow: AnyEndpoint) -> Iterator[list[int]]:
        """For each method of an endpoint, the policies of which an endpoint takes all that it does, in order."""
        if isinstance(narrow, CallEndpoint):
            yield sorted(self._taking_call(narrow))
            return
        covering = self._covering(narrow.segments)
        for method in narrow.methods or {None}:
            yield sorted(number for number, wide in covering if not wide.methods or method in wide.methods)

    def _covering(self, segments: Sequence[Segment]) -> list[tuple[int, Endpoint]]:
        """(policy, endpoint) of the endpoints whose path takes every path of these segments."""
        found: list[tuple[int, Endpoint]] = []
        places = [self._root]
        for segment in segments:
            for place in places:
                found += place.rest()
            if segment.part is Part.REST:
                return found
            wider = [segment] if segment.part is Part.LITERAL else []
            if segment != Segment(Part.LITERAL, ""):
                wider.append(_ONE)
            places = [place.below[key] for place in places for key in wider if key in place.below]
        for place in places:
            found += [*place.ends, *place.rest()]
        return found

    def _taking_call(self, narrow: CallEndpoint) -> set[int]:
        """The same of a gRPC method or a GraphQL operation, which is an HTTP request of any method and path."""
        found = {
            number
            for group in {narrow.group, None}
            for name in {narrow.name, None}
            for number in self._calls.get((narrow.protocol, group, name), ())
        }
        if narrow.protocol is Protocol.GRAPHQL:
            found.update(number for number, wide in self._root.rest() if not wide.methods)
        return found


def _nameless(segment: Segment) -> Segment:
    return segment if segment.part is Part.LITERAL else Segment(segment.part)


def _implies(narrow: MatchConfig, wide: MatchConfig) -> bool:
    """Whether every request that meets `narrow` meets `wide`."""
    if wide.condition is not None and wide.condition != narrow.condition:
        return False
    pairs = [(wide.service, narrow.service), (wide.scope, narrow.scope), (wide.host, narrow.host)]
    pairs += [(texts, narrow.attributes.get(key)) for key, texts in wide.attributes.items()]
    return all(ours is None or (theirs is not None and set(theirs) <= set(ours)) for ours, theirs in pairs)
