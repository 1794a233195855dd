"""All endpoints of all policies in one tree of path segments, so that a request finds its policies in one walk.

The cost of a walk depends on the path, not on the number of policies.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final

from otel_usageflow.policy.endpoint import Endpoint, Part
from otel_usageflow.policy.match import Selection
from otel_usageflow.policy.route import parse_route

Entry = tuple[Endpoint, int]
"""An endpoint and the position of its policy."""

_route_segments: Final = lru_cache(maxsize=4096)(parse_route)


def fits(endpoint: Endpoint, method: str | None, path: Sequence[str]) -> bool:
    """Whether one endpoint takes a request; says the same as the tree, for one endpoint."""
    if endpoint.methods and method not in endpoint.methods:
        return False
    for index, segment in enumerate(endpoint.segments):
        if segment.part is Part.REST:
            return True
        if index >= len(path):
            return False
        if segment.part is Part.LITERAL and path[index] != segment.text:
            return False
        if segment.part is Part.ONE and not path[index]:
            return False
    return len(path) == len(endpoint.segments)


class Leaf:
    """The policies whose endpoints end at one place of the tree, by method."""

    __slots__ = ("_any", "_by_method")

    def __init__(self, entries: Sequence[Entry], select: Callable[[Sequence[int]], Selection]) -> None:
        anything = {policy for endpoint, policy in entries if not endpoint.methods}
        by_method: dict[str, set[int]] = {}
        for endpoint, policy in entries:
            for method in endpoint.methods:
                by_method.setdefault(method, set()).add(policy)
        self._any = select(list(anything))
        self._by_method = {method: select(list(named | anything)) for method, named in by_method.items()}

    def of(self, method: str | None) -> Selection:
        """The policies that take this method."""
        return self._by_method.get(method, self._any) if method is not None else self._any


class _Node:
    __slots__ = ("entries", "here", "literals", "one", "rest", "rest_entries")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.one: _Node | None = None
        self.entries: list[Entry] = []
        self.rest_entries: list[Entry] = []
        self.here: Leaf | None = None
        """Of the endpoints that end at this node."""
        self.rest: Leaf | None = None
        """Of the endpoints that take whatever is left of the path from here on."""

    def insert(self, entry: Entry) -> None:
        node = self
        for segment in entry[0].segments:
            if segment.part is Part.REST:
                node.rest_entries.append(entry)
                return
            if segment.part is Part.ONE:
                node.one = node.one or _Node()
                node = node.one
            else:
                node = node.literals.setdefault(segment.text, _Node())
        node.entries.append(entry)

    def finish(self, select: Callable[[Sequence[int]], Selection]) -> None:
        self.here = Leaf(self.entries, select) if self.entries else None
        self.rest = Leaf(self.rest_entries, select) if self.rest_entries else None
        for node in (*self.literals.values(), *([self.one] if self.one else [])):
            node.finish(select)


class PathTree:
    """Finds the endpoints that fit a path or a route."""

    def __init__(self, entries: Iterable[Entry], select: Callable[[Sequence[int]], Selection]) -> None:
        self._root = _Node()
        for entry in entries:
            self._root.insert(entry)
        self._root.finish(select)

    def by_path(self, path: Sequence[str]) -> list[Leaf]:
        """The leaves that a path of decoded segments reaches."""
        found: list[Leaf] = []
        nodes = [self._root]
        for segment in path:
            below: list[_Node] = []
            for node in nodes:
                if node.rest is not None:
                    found.append(node.rest)
                literal = node.literals.get(segment)
                if literal is not None:
                    below.append(literal)
                if node.one is not None and segment:
                    below.append(node.one)
            if not below:
                return found
            nodes = below
        return _ends(nodes, found)

    def by_route(self, text: str | None) -> list[Leaf]:
        """The leaves that a framework's route reaches, for a span without a path.

        A parameter of the route may have stood for anything, so it reaches no literal. No route, or one that
        is the text of a regular expression, reaches only what takes every path.
        """
        segments = _route_segments(text) if text is not None else None
        found: list[Leaf] = []
        if segments is None:
            return [self._root.rest] if self._root.rest is not None else found
        nodes = [self._root]
        for segment in segments:
            found += [node.rest for node in nodes if node.rest is not None]
            if segment.part is Part.REST:
                return found
            below = [node.one for node in nodes if node.one is not None]
            if segment.part is Part.LITERAL:
                below += [node.literals[segment.text] for node in nodes if segment.text in node.literals]
            nodes = below
        return _ends(nodes, found)


def _ends(nodes: list[_Node], found: list[Leaf]) -> list[Leaf]:
    for node in nodes:
        if node.here is not None:
            found.append(node.here)
        if node.rest is not None:
            found.append(node.rest)
    return found
