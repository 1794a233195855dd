"""Under which other terms a policy has billed before, so that a request which comes again is not billed under both.

A charge is known by its meter. When a policy's event name or account changes while a client has no answer yet, the
client sends the request again, and it would be another charge. So for requests of the hour before the change, and of
a while after it, each policy's other places are looked at as well. Older ones that come again were not just about to
be answered: somebody wants them judged anew. Policies are known by their names. Pure.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from otel_usageflow.ledger.apart import group_of, terms_of_account
from otel_usageflow.model.usage import Terms

PATIENCE = 3_600
"""Seconds for which clients send again what was not answered."""
MARGIN = 600
"""Seconds after a change in which spans may still end that were judged before it: clocks differ, calls take time."""


class Filed(NamedTuple):
    """Where a policy bills: `account` is empty for the key's own."""

    policy: str
    account: str
    event_name: str


@dataclass(frozen=True, slots=True)
class Former:
    """What to look at. Nothing, for policies that have always billed in one place."""

    others: Mapping[Filed, tuple[Filed, ...]]
    """Where a request of a policy that bills here may have been billed already."""
    after_ns: int
    """Spans that ended before this are judged anew; nanoseconds since 1970."""
    before_ns: int
    """Spans that ended after this were never judged under other terms."""


def filed(terms: Terms) -> Filed:
    """Where these terms bill."""
    return Filed(terms.policy, terms.account or "", terms.event_name)


def former(
    now: Iterable[Terms], known: Iterable[Filed], changed_at: float, apart: Collection[str] = frozenset()
) -> Former:
    """What to look at from now on.

    Places in which policies of one name bill at the same time, as those of two processors may, are not rivals.

    Args:
        now: what the policies bill.
        known: where policies of these names have ever billed, as far as the ledger reaches.
        changed_at: unix seconds of the change, or of the start.
        apart: the accounts of ingest tokens. What bills in one of them is a rival only of what bills there as well.
    """
    now, known = tuple(now), frozenset(known)
    companies = {place.account for place in known if place.account in apart}
    present = {filed(terms) for terms in now}
    present |= {filed(one) for account in companies for one in terms_of_account(now, account)}
    places: dict[tuple[str, str], set[Filed]] = {}
    for place in {*present, *known}:
        places.setdefault((place.policy, group_of(place.account, apart)), set()).add(place)
    policies = {one.policy for one in present}
    others = {
        place: tuple(sorted(all_of_it - (present if place in present else {place})))
        for (policy, _), all_of_it in places.items()
        if policy in policies
        for place in all_of_it
    }
    return Former(
        {place: rivals for place, rivals in others.items() if rivals},
        int((changed_at - PATIENCE) * 10**9),
        int((changed_at + MARGIN) * 10**9),
    )
