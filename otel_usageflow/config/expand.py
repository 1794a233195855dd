"""`${env:NAME}` and its kin inside configuration values.

| form | meaning |
| --- | --- |
| `${env:NAME}`, `${NAME}` | the environment variable |
| `${env:NAME:-text}` | the same, or `text` when the variable is not set at all (set but empty stays empty) |
| `$$` | one `$` |

A value that is one whole expansion is read as YAML, so that `10` or `[a, b]` have their type; its text is
kept beside it for fields that want text. Inside longer text the variable's text is put in. What a variable
holds is never expanded again: a password may contain `$`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_usageflow.config.place import Place, written
from otel_usageflow.config.yaml_reader import NotYaml, read_yaml
from otel_usageflow.errors import ConfigProblem

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.]*):(?!-)")


@dataclass(slots=True)
class Expanded:
    """A configuration after its expansions."""

    tree: Any = None
    texts: dict[Place, str] = field(default_factory=dict)
    """Whole expansions that YAML did not read as text: place -> the text as it was."""
    unset: dict[Place, list[str]] = field(default_factory=dict)
    """Place -> variables that are not set and have no default."""
    empty: dict[Place, list[str]] = field(default_factory=dict)
    """Place -> variables that are set, but empty."""
    problems: list[ConfigProblem] = field(default_factory=list)


class _Bad(ValueError):
    """An expansion that cannot be read."""


def expand(tree: Any, environment: Mapping[str, str]) -> Expanded:
    """Expand every text value of a tree; keys stay as they are."""
    result = Expanded()
    result.tree = _expand(tree, (), environment, result)
    return result


def _expand(tree: Any, place: Place, environment: Mapping[str, str], result: Expanded) -> Any:
    if isinstance(tree, dict):
        return {key: _expand(value, (*place, key), environment, result) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_expand(value, (*place, index), environment, result) for index, value in enumerate(tree)]
    if not isinstance(tree, str) or "$" not in tree:
        return tree
    reading = _Reading(environment)
    try:
        text, whole = reading.read(tree)
    except _Bad as error:
        result.problems.append(ConfigProblem(written(place), str(error)))
        return None
    if reading.unset:
        result.unset[place] = reading.unset
    if reading.empty:
        result.empty[place] = reading.empty
    if not whole:
        return text
    if reading.unset and not text:
        return None
    try:
        value = read_yaml(text)
    except NotYaml:
        return text
    if isinstance(value, str) or (value is None and text.lstrip().startswith("#")):
        return text
    result.texts[place] = text
    return value


class _Reading:
    """One text on its way through the expansion."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.unset: list[str] = []
        self.empty: list[str] = []

    def read(self, text: str) -> tuple[str, bool]:
        """Expand a text; the flag says whether it was one expansion and nothing else."""
        parts: list[str] = []
        position = 0
        whole = False
        while (dollar := text.find("$", position)) >= 0:
            parts.append(text[position:dollar])
            following = text[dollar + 1 : dollar + 2]
            if following == "{":
                end = _closing(text, dollar + 2)
                parts.append(self._look_up(text[dollar + 2 : end]))
                whole = dollar == 0 and end == len(text) - 1
                position = end + 1
            else:
                parts.append("$")
                position = dollar + (2 if following == "$" else 1)
        return "".join([*parts, text[position:]]), whole

    def _look_up(self, inside: str) -> str:
        scheme = _SCHEME.match(inside)
        if scheme and scheme[1] != "env":
            raise _Bad(
                f"${{{scheme[1]}:...}} is not supported; write ${{env:NAME}}, or $${{...}} for the text itself"
            )
        inside = inside[scheme.end() :] if scheme else inside
        name, has_default, default = inside.partition(":-")
        if not _NAME.fullmatch(name):
            raise _Bad(
                "holds ${...} without a valid variable name; write ${env:NAME}, or $${...} for the text itself"
            )
        if name in self.environment:
            value = self.environment[name]
            if not value:
                self.empty.append(name)
            elif not value.isascii() and value.encode("utf-8", "replace").decode() != value:
                raise _Bad(f"the environment variable {name} is not valid UTF-8")
            return value
        if has_default:
            return self.read(default)[0]
        self.unset.append(name)
        return ""


def _closing(text: str, start: int) -> int:
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise _Bad("holds ${ without a closing }; write $${ for the text itself")
