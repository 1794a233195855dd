"""User joined from several sources: `{header:x-org}/{path:project}`."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, Field, ValidationError

from otel_usageflow.config.nearest import nearest
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.plain import PLAIN
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import is_user

_PIECE: Final = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[^{}]+|[{}]")


@dataclass(frozen=True, slots=True)
class Template:
    """A template, read: texts and sources take turns, beginning and ending with a text."""

    texts: tuple[str, ...]
    sources: tuple[Source, ...]


def parse_template(text: str) -> Template:
    """Read a template; `{{` and `}}` stand for braces.

    Raises:
        ValueError: it is none; the message says why.
    """
    texts, sources = [""], list[Source]()
    for piece in _PIECE.findall(text):
        if piece in {"{", "}"}:
            raise ValueError(
                f"{text!r} has a brace without its partner; for one that is meant as text write {piece * 2}"
            )
        if piece in {"{{", "}}"}:
            texts[-1] += piece[0]
        elif piece.startswith("{"):
            if sources and not texts[-1]:
                raise ValueError(
                    f"{text!r} needs a text before {piece}, such as a slash; without one, different users could "
                    "have the same name"
                )
            sources.append(_source(piece))
            texts.append("")
        else:
            texts[-1] += piece
    if not sources:
        raise ValueError(f"{text!r} names no source; write for example {{header:x-org}}/{{path:project}}")
    return Template(tuple(texts), tuple(sources))


def _source(piece: str) -> Source:
    name, colon, argument = piece[1:-1].partition(":")
    name = name.strip()
    if name not in PLAIN:
        guess = nearest(name, PLAIN)
        meant = f"; did you mean {guess}?" if guess else ""
        raise ValueError(
            f"{piece} names no source that a template can use{meant} (known: {', '.join(sorted(PLAIN))})"
        )
    if not colon:
        raise ValueError(f"{piece} does not say which {name}; write {{{name}:NAME}}")
    try:
        return PLAIN[name].model_validate({name: argument})
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ValueError(f"{piece}: {why}") from None


def _checked(value: str) -> str:
    parse_template(value)
    return value


class TemplateSource(Source):
    """`template: "{header:x-org}/{path:project}"`"""

    template: Annotated[str, AfterValidator(_checked)] = Field(
        description="texts and sources in braces; all of them are needed", examples=["{header:x-org}/{path:project}"]
    )

    def parts(self) -> tuple[Source, ...]:
        """The sources that are joined."""
        return parse_template(self.template).sources

    def reader(self, setting: Setting) -> Reader:
        """Join what the sources find; where one finds nobody, there is no user."""
        parsed = parse_template(self.template)
        readers = [source.prepared(setting) for source in parsed.sources]
        first, *between, last = parsed.texts

        def read(request: HttpRequest) -> str | None:
            user = first
            for reader, after in zip(readers, [*between, None], strict=True):
                part = reader.read(request)
                # A part that holds the text behind it could be cut in two places: two users would have one name.
                if part is None or (after is not None and (part + after).find(after) != len(part)):
                    return None
                user += part + (last if after is None else after)
            user = user.strip()
            return user if is_user(user, setting.placeholders) else None

        return Reader(
            f"template {self.template}",
            read,
            frozenset().union(*(reader.span_keys for reader in readers)),
            frozenset().union(*(reader.resource_keys for reader in readers)),
        )
