"""Stripe's v1 lists: newest first, by cursor (docs.stripe.com/api/pagination)."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from otel_usageflow.testing.stripe.message import JsonObject, Renderable


class Listed(Renderable, Protocol):
    """What stands in a list, in the order of creation."""

    @property
    def created(self) -> int:
        """Unix seconds."""

    @property
    def place(self) -> int:
        """Index in the sequence of all."""


T = TypeVar("T", bound=Listed)


def created_range(items: Sequence[Listed], bounds: Mapping[str, int]) -> tuple[int, int]:
    """The part of `items`, which are in order of creation, that lies within `created[...]` bounds."""
    low, high = 0, len(items)
    for bound, moment in bounds.items():
        if bound == "gte":
            low = max(low, bisect_left(items, moment, key=_created))
        elif bound == "gt":
            low = max(low, bisect_right(items, moment, key=_created))
        elif bound == "lte":
            high = min(high, bisect_right(items, moment, key=_created))
        else:
            high = min(high, bisect_left(items, moment, key=_created))
    return low, high


def _created(item: Listed) -> int:
    return item.created


def page(
    url: str,
    items: Sequence[T],
    params: Mapping[str, Any],
    find: Callable[[str], Listed],
    keep: Callable[[T], bool] = lambda _item: True,
) -> JsonObject:
    """One page of `items` (oldest first here, newest first in the answer).

    Args:
        params: `limit`, `starting_after`, `ending_before`, `created`, as they were checked.
        find: turns a cursor into its item, or raises `StripeFailure`.
        keep: which items the list shows.
    """
    limit: int = params.get("limit", 10)
    low, high = created_range(items, params.get("created", {}))
    if "ending_before" in params:
        low = max(low, find(params["ending_before"]).place + 1)
        positions = iter(range(low, high))
    else:
        if "starting_after" in params:
            high = min(high, find(params["starting_after"]).place)
        positions = iter(range(high - 1, low - 1, -1))
    found: list[T] = []
    for position in positions:
        if keep(items[position]):
            found.append(items[position])
            if len(found) > limit:
                break
    has_more = len(found) > limit
    found = found[:limit]
    if "ending_before" in params:
        found.reverse()
    return {"object": "list", "url": url, "has_more": has_more, "data": [item.render() for item in found]}
