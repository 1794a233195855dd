"""Which held usage belongs under other terms by now, because its policy was mended since. Pure.

Usage that waits for a customer or a meter under terms that no policy has any more can only be billed under those that
its policy has now. Usage that was held under terms that some policy still has is left where it is.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from otel_usageflow.ledger.apart import terms_of_account
from otel_usageflow.model.usage import Terms

Place = tuple[str, str, str | None]
"""What decides who is billed where: account, event name, metadata field."""


def place_of(terms: Terms) -> Place:
    """Where a policy bills."""
    return terms.account or "", terms.event_name, terms.metadata_field


@dataclass(frozen=True, slots=True)
class Present:
    """The terms of the policies that there are now."""

    terms: tuple[Terms, ...]
    places: frozenset[Place]
    of_policy: Mapping[str, Terms] = field(default_factory=dict)
    """Only of names that mean one thing: two processors may each have a policy of the same name."""
    apart: Collection[str] = frozenset()
    """The accounts of ingest tokens: usage leaves none of them, and comes into none."""

    def target(self, held_under: Place, policy: str) -> Terms | None:
        """The terms to put usage of a policy under; None if it stays where it is."""
        account = held_under[0]
        if account in self.apart:
            there = terms_of_account(self.terms, account)
            targets = {place_of(one): one for one in there if one.policy == policy}
            stays = held_under in map(place_of, there) or len(targets) != 1
            return None if stays else next(iter(targets.values()))
        target = None if held_under in self.places else self.of_policy.get(policy)
        return None if target is None or (target.account or "") in self.apart else target


def present(terms: Iterable[Terms], apart: Collection[str] = frozenset()) -> Present:
    """What the policies that there are now bill."""
    terms = tuple(terms)
    of_policy: dict[str, set[Place]] = {}
    for one in terms:
        of_policy.setdefault(one.policy, set()).add(place_of(one))
    return Present(
        terms,
        frozenset(map(place_of, terms)),
        {one.policy: one for one in terms if len(of_policy[one.policy]) == 1},
        apart,
    )
