"""Which held usage belongs under other terms by now, because its policy was mended since. Pure.

Usage that waits for a customer or a meter under terms that no policy has any more can only be billed under those that
its policy has now. Usage that was held under terms that some policy still has is left where it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from otel_usageflow.model.usage import Terms

Place = tuple[str, str, str | None]
"""What decides who is billed where: account, event name, metadata field."""


def place_of(terms: Terms) -> Place:
    """Where a policy bills."""
    return terms.account or "", terms.event_name, terms.metadata_field


@dataclass(frozen=True, slots=True)
class Present:
    """The terms of the policies that there are now."""

    places: frozenset[Place]
    of_policy: Mapping[str, Terms] = field(default_factory=dict)
    """Only of names that mean one thing: two processors may each have a policy of the same name."""

    def target(self, held_under: Place, policy: str) -> Terms | None:
        """The terms to put usage of a policy under; None if it stays where it is."""
        if held_under in self.places:
            return None
        return self.of_policy.get(policy)


def present(terms: Iterable[Terms]) -> Present:
    """What the policies that there are now bill."""
    terms = tuple(terms)
    of_policy: dict[str, set[Place]] = {}
    for one in terms:
        of_policy.setdefault(one.policy, set()).add(place_of(one))
    return Present(
        frozenset(map(place_of, terms)),
        {one.policy: one for one in terms if len(of_policy[one.policy]) == 1},
    )
