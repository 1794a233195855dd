"""The endpoint that a request belongs to, as a template, where nobody has written one yet.

The framework's route is taken where the span has it and it fits the path. Otherwise segments that look like
identifiers become parameters: numbers, UUIDs, long or hexadecimal texts, and what follows `users`, `accounts`
and the like. A segment is shown only if it looks like a word of the API, because an identifier may be a user.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from otel_usageflow.policy.endpoint import Endpoint, Part, Segment
from otel_usageflow.policy.paths import fits
from otel_usageflow.policy.route import parse_route

Template = tuple[Segment, ...]

PEOPLE: Final = frozenset(
    """
    account accounts client clients companies company customer customers member members merchant merchants
    org orgs organisation organisations organization organizations owner owners partner partners profile
    profiles project projects subscriber subscribers team teams tenant tenants user users workspace
    workspaces
    """.split()  # noqa: SIM905  (a list would be one word a line)
)
"""Segments behind which the name of somebody stands."""
_NO_NAMES: Final = frozenset(
    """
    all batch bulk count current export import info invite invites list login logout me new profile register
    search self settings signup status summary token v1 v2 v3 validate verify
    """.split()  # noqa: SIM905  (a list would be one word a line)
)
"""What stands behind them and is a word of the API all the same."""
WIDEST: Final = 100
"""Distinct words that may stand at one place of a path; with more of them it is a parameter."""
DEEPEST: Final = 20
"""Segments of a template; what stands behind them is the rest."""
_LONGEST_ROUTE: Final = 500

_WORD: Final = re.compile(r"[A-Za-z0-9._~:$-]{1,40}")
_HEX: Final = re.compile(r"[0-9a-fA-F]{8,}(-[0-9a-fA-F]{4,})*|[0-9a-fA-F]{16,}")
_STATIC: Final = re.compile(
    r"(?i).+\.(css|js|mjs|map|png|jpe?g|gif|svg|ico|webp|avif|woff2?|ttf|eot|html?|txt|xml|webmanifest|wasm|mp4|pdf)"
)
_NAMED: Final = re.compile(r"\{\*?(\w+)|<(?:[^:<>]+:)?(\w+)>|[:*](\w+)|\[(?:\.\.\.)?(\w+)\]")
_PARAMETER: Final = re.compile(r"[A-Za-z_]\w*")


def identifies(text: str) -> bool:
    """Whether a segment looks like an identifier, not like a word of the API."""
    if not text:
        return False
    digits = sum(char.isdigit() for char in text)
    if digits == len(text) or not _WORD.fullmatch(text):
        return True
    if len(text) >= 8 and digits >= 3:
        return True
    return _HEX.fullmatch(text) is not None and (digits > 0 or len(text) >= 16)


def is_static(text: str) -> bool:
    """Whether a segment is the name of a file that a browser asks for."""
    return _STATIC.fullmatch(text) is not None


def of_request(path: Sequence[str] | None, route: str | None) -> Template | None:
    """The template of a request, by its decoded path and its route; None if it has neither."""
    named = _of_route(route, path) if route else None
    if named is not None:
        return named
    return None if path is None else _of_path(path)


def by_route(path: Sequence[str] | None, route: str | None) -> bool:
    """Whether the route says what the template is: then its words are the framework's own."""
    return bool(route) and _of_route(route or "", path) is not None


def _of_route(route: str, path: Sequence[str] | None) -> Template | None:
    segments = parse_route(route) if len(route) <= _LONGEST_ROUTE else None
    if segments is None or len(segments) > DEEPEST or segments[:1] == (Segment(Part.REST),):
        return None  # the text of a pattern, or a fallback for everything
    parts = route.strip().removeprefix("/").removesuffix("/").split("/")
    named = _with_names(segments, parts)
    if path is None:
        return named
    if len(parts) > len(named) and named and named[-1].part is Part.REST:
        named = _with_tail(named, parts[len(named) :], path)
    return named if fits(Endpoint(frozenset(), named, ""), None, path) else None


def _with_names(segments: Sequence[Segment], parts: Sequence[str]) -> Template:
    names: set[str] = set()
    made: list[Segment] = []
    for index, segment in enumerate(segments):
        name = ""
        if segment.part is not Part.LITERAL and index < len(parts) and (found := _NAMED.match(parts[index])):
            name = next(group for group in found.groups() if group)
        if name in names or not _PARAMETER.fullmatch(name) or not name.isascii():
            name = ""
        names.add(name)
        made.append(segment if segment.part is Part.LITERAL else Segment(segment.part, name))
    return tuple(made)


def _with_tail(named: Template, parts: Sequence[str], path: Sequence[str]) -> Template:
    """A route whose parameter may be several segments, with what stands behind it, for one path."""
    tail = parse_route("/".join(parts))
    many = len(path) - len(named) + 1 - len(parts)
    if tail is None or len(tail) != len(parts) or tail[-1].part is Part.REST or not 1 <= many <= 4:
        return named
    first = Segment(Part.ONE, named[-1].text)
    others = [Segment(Part.ONE)] * (many - 1)
    return (
        *named[:-1],
        first,
        *others,
        *(Segment(one.part, one.text if one.part is Part.LITERAL else "") for one in tail),
    )


def _of_path(path: Sequence[str]) -> Template:
    made: list[Segment] = []
    before = ""
    for index, text in enumerate(path[:DEEPEST]):
        somebody = before.lower() in PEOPLE and text.lower() not in _NO_NAMES and text != ""
        file = index == len(path) - 1 and is_static(text)
        made.append(Segment(Part.ONE) if somebody or file or identifies(text) else Segment(Part.LITERAL, text))
        before = text
    if len(path) > DEEPEST:
        made.append(Segment(Part.REST))
    return tuple(made)


def shape(template: Template) -> Template:
    """The template without the names of its parameters: two of one shape take the same paths."""
    return tuple(segment if segment.part is Part.LITERAL else Segment(segment.part) for segment in template)


def parameter_names(template: Template) -> list[str]:
    """The name of the parameter at each place, empty for a literal: the route's own, else `id`, `id2`, ..."""
    taken = {segment.text for segment in template if segment.part is not Part.LITERAL}
    names: list[str] = []
    number = 1
    for segment in template:
        name = "" if segment.part is Part.LITERAL else segment.text
        if segment.part is not Part.LITERAL and not name:
            while (name := "id" if number == 1 else f"id{number}") in taken:
                number += 1
            taken.add(name)
        names.append(name)
    return names


def written(template: Template) -> str:
    """The path of an endpoint as a policy has it: what it reads from this is the template again."""
    parts = []
    for segment, name in zip(template, parameter_names(template), strict=True):
        if segment.part is Part.LITERAL:
            text = quote(segment.text, safe="!$&'()+,;=@:~", errors="surrogateescape")
            parts.append("%3A" + text[1:] if text[:1] == ":" else text)
        else:
            parts.append(f"{{{name}}}" if segment.part is Part.ONE else f"*{name}")
    return "/" + "/".join(parts) + ("/" if parts and not parts[-1] else "")


class Widths:
    """Which places of paths have too many different words to be words."""

    def __init__(self, widest: int = WIDEST) -> None:
        self._widest = widest
        self._words: dict[Template, set[str]] = {}
        self._wide: set[Template] = set()

    def settle(self, template: Template, *, learn: bool = True) -> tuple[Template, bool]:
        """The template with wide places as parameters, and whether a place has just become wide."""
        made: Template = ()
        grown = False
        for segment in template:
            if segment.part is Part.LITERAL:
                words = self._words.setdefault(made, set()) if learn else self._words.get(made, set())
                if made not in self._wide and learn and segment.text not in words:
                    words.add(segment.text)
                    if len(words) > self._widest:
                        self._widen(made)
                        grown = True
                if made in self._wide:
                    segment = Segment(Part.ONE)
            made = (*made, segment)
        return made, grown

    def _widen(self, place: Template) -> None:
        """Forget what was learnt below the words that stood here: nobody will come by them again."""
        self._wide.add(place)
        depth = len(place)
        self._words = {
            below: words
            for below, words in self._words.items()
            if len(below) < depth or below[:depth] != place or below[depth:][:1] == (Segment(Part.ONE),)
        }


def specificity(template: Template) -> tuple[tuple[int, str], ...]:
    """Sorts templates so that one that takes everything that another takes comes after it."""
    ranks: Mapping[Part, int] = {Part.LITERAL: 0, Part.ONE: 1, Part.REST: 2}
    # Names of parameters do not count: /{a}/{b} stands behind /{c}/d.
    return (*((ranks[segment.part], segment.text) for segment in shape(template)), (-1, ""))
