"""From pydantic's list of errors to one finding for each real mistake.

Pydantic reports every branch of a choice (`user: {header: ...} | {query: ...} | [...]`) and puts the branch's
name into the error's location. Here the errors become a tree along the *data*, and of every choice the
branch that fits the data best speaks for all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import ErrorDetails

from otel_usageflow.config.place import Place

_WRONG_SHAPE = ("_type", "_attributes_type", "is_instance_of", "none_required")
_WRONG_WORD = ("literal_error", "enum")


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: where it is in the data, what pydantic says, and in which branch of a choice."""

    place: Place
    type: str
    error: ErrorDetails
    branch: str | None = None
    alternatives: tuple[ErrorDetails, ...] = ()
    """What the other branches expected; then all of them together are the message."""


@dataclass(slots=True)
class _Node:
    place: Place
    branch: str | None = None
    errors: list[ErrorDetails] = field(default_factory=list)
    keys: dict[str | int, "_Node"] = field(default_factory=dict)
    branches: dict[str, "_Node"] = field(default_factory=dict)


def findings(errors: Sequence[ErrorDetails], data: Any) -> list[Finding]:
    """One finding for each mistake, in the order of the data."""
    root = _Node(())
    for error in errors:
        _insert(root, error, data)
    return list(_collect(root))


def _insert(node: _Node, error: ErrorDetails, value: Any) -> None:
    location = error["loc"]
    for index, step in enumerate(location):
        missing = error["type"] == "missing" and index == len(location) - 1
        if (isinstance(value, dict) and (step in value or missing)) or (value is None and missing):
            value = value.get(step) if value else None
            node = node.keys.setdefault(step, _Node((*node.place, step), node.branch))
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
            node = node.keys.setdefault(step, _Node((*node.place, step)))
        elif step != "[key]":
            node = node.branches.setdefault(str(step), _Node(node.place, str(step)))
    node.errors.append(error)


def _collect(node: _Node) -> Iterator[Finding]:
    for error in node.errors:
        # Entries with mistakes do not count for pydantic; here they do.
        if not (error["type"] == "too_short" and node.keys):
            yield Finding(node.place, error["type"], error, node.branch)
    for below in node.keys.values():
        yield from _collect(below)
    if node.branches:
        yield from _best_branch(node)


def _best_branch(node: _Node) -> list[Finding]:
    branches = [list(_collect(branch)) for branch in node.branches.values()]
    if len(branches) == 1:
        return branches[0]
    fitting = [found for found in branches if not any(_is_mismatch(node, finding) for finding in found)]
    if not fitting:
        return [_none_fits(node, [found[0] for found in branches])]
    by_rank = sorted(fitting, key=lambda found: _rank(node, found))
    best = [found for found in by_rank if _rank(node, found) == _rank(node, by_rank[0])]
    return best[0] if len(best) == 1 else _several_fit(node, best)


def _is_mismatch(node: _Node, finding: Finding) -> bool:
    """Whether the finding says that the data has another form altogether than this branch wants."""
    return finding.place == node.place and (
        finding.type.endswith((*_WRONG_SHAPE, "_parsing")) or finding.type in _WRONG_WORD
    )


def _rank(node: _Node, found: list[Finding]) -> tuple[int, int, int]:
    own = [finding for finding in found if finding.place[:-1] == node.place]
    return (
        sum(finding.type == "extra_forbidden" for finding in own),
        sum(finding.type == "missing" for finding in own),
        len(found),
    )


def _none_fits(node: _Node, mismatches: list[Finding]) -> Finding:
    words = [finding for finding in mismatches if finding.type in _WRONG_WORD]
    first = words[0] if words else mismatches[0]
    return Finding(node.place, "union", first.error, None, tuple(finding.error for finding in mismatches))


def _several_fit(node: _Node, best: list[list[Finding]]) -> list[Finding]:
    """Nothing in the data says which branch was meant: name the unknown keys, or else all that could be there."""
    unknown = [f for f in best[0] if f.type == "extra_forbidden" and f.place[:-1] == node.place]
    if unknown:
        return [Finding(finding.place, finding.type, finding.error) for finding in unknown]
    missing = [f for found in best for f in found if f.type == "missing" and f.place[:-1] == node.place]
    if missing:
        error = missing[0].error
        return [Finding(node.place, "one_of", error, None, tuple(finding.error for finding in missing))]
    return best[0]
