"""Places in a configuration: how a path is kept, and how it is written for people."""

from collections.abc import Sequence
from typing import Any

Place = tuple[str | int, ...]
"""Keys and list indexes from the top of the configuration."""


def written(place: Sequence[str | int]) -> str:
    """Write a place as the Collector does: `processors::usage_policy::policies::0::user`."""
    return "::".join(str(step) for step in place)


def value_at(tree: Any, place: Place) -> Any:
    """What stands at a place, or None when nothing does."""
    for step in place:
        if isinstance(tree, dict):
            tree = tree.get(step)
        elif isinstance(tree, list) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
        else:
            return None
    return tree


def replaced(tree: Any, place: Place, value: Any) -> Any:
    """A copy of the tree with another value at one place; a missing last key is added."""
    if not place:
        return value
    step, rest = place[0], place[1:]
    if isinstance(tree, dict):
        return {**tree, step: replaced(tree.get(step), rest, value)}
    if isinstance(tree, list) and isinstance(step, int):
        return [*tree[:step], replaced(tree[step], rest, value), *tree[step + 1 :]]
    return tree


def names_along(tree: Any, place: Place) -> list[str]:
    """The named list entries on the way to a place, such as `policy 'chat'`."""
    found = []
    for depth in range(1, len(place)):
        entry = value_at(tree, place[: depth + 1])
        if isinstance(place[depth], int) and isinstance(entry, dict) and isinstance(entry.get("name"), str):
            found.append(f"{_singular(str(place[depth - 1]))} {entry['name']!r}")
    return found


def _singular(word: str) -> str:
    return f"{word[:-3]}y" if word.endswith("ies") else word.removesuffix("s")
