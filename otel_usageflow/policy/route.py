"""The framework's route template, read in any framework's spelling.

Instrumentations put the route on the span as the framework writes it: `/users/{id}` (FastAPI, Spring, Go),
`/users/:id` (Express, Gin, Rails), `/users/<int:id>` (Flask), `users/<str:id>/` (Django), `/users/[id]` (Next.js).
It is used where a span has no path, and then says less than a path: what a parameter stood for is unknown.
"""

import re
from typing import Final

from otel_usageflow.policy.endpoint import Part, Segment

_REGEX: Final = re.compile(r"[\\^$()|]|\[\^|\[.-.\]")
"""What is left of these after the parameters are taken out is the text of a regular expression."""
_FORMAT: Final = re.compile(r"\(\.:format\)$")
_METHOD: Final = re.compile(r"^[A-Z]+ +(?=/)")
_BRACKETS: Final = {"{": "}", "<": ">"}


def parse_route(text: str) -> tuple[Segment, ...] | None:
    """Read a route; None if it is a regular expression, or otherwise says nothing about segments.

    A segment with a parameter in it is any one segment; one that may be absent, or may be several, is the rest.
    """
    text = _METHOD.sub("", _FORMAT.sub("", text.strip()))
    segments: list[Segment] = []
    for part in _split(text.removeprefix("/").removesuffix("/")):
        if part == "{$}":  # Go: this path and none below it
            break
        segment = _read(part)
        if segment is None:
            return None
        segments.append(segment)
        if segment.part is Part.REST:
            break  # what stands behind an unknown number of segments has no known place
    return tuple(segments)


def _split(stem: str) -> list[str]:
    """Split at the slashes that stand outside of brackets."""
    parts: list[str] = []
    closing, start = "", 0
    depth = 0
    for index, char in enumerate(stem):
        if depth:
            if char == closing:
                depth -= 1
            elif _BRACKETS.get(char) == closing:
                depth += 1
        elif char in _BRACKETS:
            closing, depth = _BRACKETS[char], 1
        elif char == "/":
            parts.append(stem[start:index])
            start = index + 1
    return [*parts, stem[start:]] if stem else []


def _read(part: str) -> Segment | None:
    if part.startswith(("*", "{*", "[...", "[[...")) or part.endswith(("...}", "*}")):
        return Segment(Part.REST)
    if part.startswith("{") and part.endswith("}"):
        return _parameter(part[1:-1], converter_first=False)
    if part.startswith("<") and part.endswith(">"):
        return _parameter(part[1:-1], converter_first=True)
    if re.fullmatch(r"\[[A-Za-z_][\w-]*\]", part):
        return Segment(Part.ONE)
    if part.startswith(":"):
        name = re.match(r":[\w-]+(\([^()]*\))?", part)
        after = part[name.end() :] if name else part
        if after in {"?", "*", "+"}:
            return Segment(Part.REST)
        return Segment(Part.ONE) if name else None
    bare = re.sub(r"\{[^{}]*\}|<[^<>]*>", "", part)
    if _REGEX.search(bare):
        return None
    if bare != part or re.search(r"(?<=[.-]):[A-Za-z_]\w*", part):
        return Segment(Part.ONE)  # a parameter within a segment
    return Segment(Part.LITERAL, part)


def _parameter(inside: str, *, converter_first: bool) -> Segment:
    """`id`, `id:int`, `int:id`, `id:[0-9]+`, `id:path`, `path:id`, `id?`, `id=1`."""
    name, _, pattern = inside.partition(":")
    several = pattern == "path" or (converter_first and name == "path" and pattern != "")
    optional = inside.endswith("?") or "=" in inside
    greedy = "/" in pattern or ".*" in pattern or ".+" in pattern
    return Segment(Part.REST if several or optional or greedy else Part.ONE)
