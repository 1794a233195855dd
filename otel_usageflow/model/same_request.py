"""Which charges are one request, where a policy takes a header as the request's identity. Pure.

Charges of one account and event name that carry the same id, and were made for the same user, are one charge: the
one whose span ended first counts. Two users are two charges, so that nobody can take away somebody else's usage by
sending their id. A span without a user (a proxy's, say) is one with whatever has a user.
"""

from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

Order = tuple[int, bytes]
"""The moment that is billed in nanoseconds, then what tells charges of one moment apart."""

Name = TypeVar("Name", bound=Hashable)


class Candidate(NamedTuple):
    """One charge of those that carry the same id."""

    order: Order
    user: str
    """Empty where nobody was found."""
    billable: bool
    fixed: bool = False
    """What became of it cannot be changed: it was sent, or somebody decided about it."""

    @property
    def rank(self) -> tuple[bool, bool, Order]:
        """The least one counts."""
        return not self.fixed, not self.billable, self.order


def give_way(candidates: Mapping[Name, Candidate]) -> dict[Name, Name]:
    """The charges that do not count, each with the one that counts for it; those that are fixed are never among them.

    The answer depends on what the candidates are, and not on the order in which they came.
    """
    counting: dict[str, Name] = {}
    for name, one in candidates.items():
        before = counting.get(one.user)
        if before is None or one.rank < candidates[before].rank:
            counting[one.user] = name
    named = [name for user, name in counting.items() if user]
    if named:
        counting[""] = min(named, key=lambda name: candidates[name].rank)
    return {
        name: counting[one.user] for name, one in candidates.items() if not one.fixed and counting[one.user] != name
    }
