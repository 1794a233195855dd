"""Whether two instrumentations of a service look as if they reported the same requests. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

FEWEST = 50
"""Requests of each, below which nothing is said."""
_ALIKE = 0.95
"""Share of the larger count that the smaller one must have: batches of the two come at different moments."""


class Twins(NamedTuple):
    """Two instrumentation scopes of one service that report about as many requests."""

    scopes: tuple[str, str]
    requests: int
    """Of the one that reports fewer."""


def twins(entered: Mapping[str, int]) -> Twins | None:
    """The two scopes with the most requests, if they have about as many.

    Requests that come twice are counted by both, one to one. Two kinds of requests that happen to be as many look the
    same, so this is a suspicion and no verdict.

    Args:
        entered: instrumentation scope -> requests that it reported.
    """
    most = sorted(entered.items(), key=lambda one: (-one[1], one[0]))[:2]
    if len(most) < 2:
        return None
    (one, more), (other, fewer) = most
    if fewer < FEWEST or fewer < _ALIKE * more:
        return None
    first, second = sorted((one, other))
    return Twins((first, second), fewer)
