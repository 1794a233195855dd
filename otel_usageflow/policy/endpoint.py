"""The endpoints of a policy: `POST /v1/users/:id`, read once, at start."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import unquote


class Part(Enum):
    """What a segment of a template stands for."""

    LITERAL = "literal"
    ONE = "one"
    """Any one segment that is not empty."""
    REST = "rest"
    """Zero or more segments; always the last."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a template; `text` is the literal, or the parameter's name, or empty."""

    part: Part
    text: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One `METHOD /path` of a policy."""

    methods: frozenset[str]
    """In capitals; empty means any."""
    segments: tuple[Segment, ...]
    text: str
    """As it was written."""

    def parameter(self, name: str, path: list[str]) -> str | None:
        """The value of a named parameter in a path that this endpoint matches; None if there is no such one."""
        for index, segment in enumerate(self.segments):
            if segment.text == name and segment.part is Part.ONE:
                return path[index]
            if segment.text == name and segment.part is Part.REST:
                return "/".join(path[index:])
        return None

    def parameters(self) -> list[str]:
        """The names of its parameters."""
        return [segment.text for segment in self.segments if segment.part is not Part.LITERAL and segment.text]


_METHOD: Final = re.compile(r"[!#$%&'*+.^_`~0-9A-Za-z-]+")
_RPC: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+/([A-Za-z_][A-Za-z0-9_]*|\*)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def parse_endpoint_text(text: str) -> Endpoint:
    """Read `METHOD /path`; METHOD may be `*` or `GET|POST`.

    A path segment may be `:name` or `{name}` (one segment), `*` (one), and as the last one `**` or `*name`
    (the rest). Segments are decoded after splitting; one trailing slash is ignored.

    Raises:
        ValueError: it is none; the message shows a right one.
    """
    words = text.split()
    if len(words) == 1 and words[0].startswith("/"):
        raise ValueError(
            f"{text!r} has no method; write for example `GET {words[0]}`, or `* {words[0]}` for any method"
        )
    if len(words) != 2:
        raise ValueError(f"{text!r} is not an endpoint; write a method and a path, as in `POST /v1/chat/completions`")
    methods, path = words
    return Endpoint(_methods(methods, text), _segments(path, text), text)


def _methods(words: str, text: str) -> frozenset[str]:
    names = words.split("|")
    if names == ["*"]:
        return frozenset()
    for name in names:
        if not name or "*" in name or not _METHOD.fullmatch(name):
            raise ValueError(f"{text!r}: {name!r} is not a method; write `GET`, `GET|POST`, or `*` for any method")
    return frozenset(name.upper() for name in names)


def _segments(path: str, text: str) -> tuple[Segment, ...]:
    if "://" in path:
        raise ValueError(
            f"{text!r} holds a whole URL; write only the path, as in `GET /users`, and the host in `match: host`"
        )
    if not path.startswith("/"):
        or_grpc = f"; a gRPC method is written `grpc {path}`" if _RPC.fullmatch(path) else ""
        raise ValueError(f"{text!r}: the path must begin with a slash, as in `GET /{path}`{or_grpc}")
    if "?" in path or "#" in path:
        raise ValueError(
            f"{text!r}: the query is no part of an endpoint; write `{text.partition('?')[0].partition('#')[0]}`"
        )
    stem = path.removeprefix("/").removesuffix("/")
    parts = stem.split("/") if stem else []
    segments = tuple(_segment(part, text) for part in parts)
    for segment, part in zip(segments[:-1], parts[:-1], strict=True):
        if segment.part is Part.REST:
            raise ValueError(
                f"{text!r}: {part!r} is the rest of the path, so it must be the last segment; `*` is any one segment"
            )
    names = [segment.text for segment in segments if segment.part is not Part.LITERAL and segment.text]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{text!r}: the parameter {name!r} occurs twice; give each its own name")
    return segments


def _segment(part: str, text: str) -> Segment:
    if part == "*":
        return Segment(Part.ONE)
    if part == "**":
        return Segment(Part.REST)
    if part.startswith(":"):
        return Segment(Part.ONE, _name(part[1:], part, text))
    if part.startswith("{") and part.endswith("}"):
        return Segment(Part.ONE, _name(part[1:-1], part, text))
    if part.startswith("*"):
        return Segment(Part.REST, _name(part[1:], part, text))
    if "{" in part or "}" in part or "*" in part or part.startswith("<"):
        raise ValueError(
            f"{text!r}: {part!r} is neither a plain segment nor a parameter; a parameter is a whole segment, "
            "as in `/users/:id` or `/users/{id}`, `*` is any one segment, and `/**` any rest"
        )
    return Segment(Part.LITERAL, unquote(part, errors="surrogateescape"))


def _name(name: str, part: str, text: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{text!r}: {part!r} is no parameter; its name is made of letters, digits and `_`, as in `/users/:id`"
            + (
                "; for the rest of a path write `/*name`"
                if ":" in name or "*" in name or name.endswith("...")
                else ""
            )
        )
    return name
