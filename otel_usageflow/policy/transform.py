"""What is made of a user's text before it is looked up: lower case, without a prefix or suffix, a part of it."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, WrapValidator, model_validator

from otel_usageflow.config.nearest import unknown
from otel_usageflow.config.types import ConfigModel
from otel_usageflow.policy.fields import OneOrMany
from otel_usageflow.policy.regex import compile_regex

_WORDS = ("lower", "strip_prefix", "strip_suffix", "regex")


def _regex(value: str) -> str:
    if (groups := compile_regex(value).groups) != 1:
        raise ValueError(f"needs one capture group, which is the user, as in ^user_([0-9]+)$; it has {groups}")
    return value


Affix = Annotated[str, StringConstraints(min_length=1)]


class Step(ConfigModel):
    """One change that needs to be told more than its name."""

    strip_prefix: Affix | None = Field(default=None, description="left out where the text begins with it")
    strip_suffix: Affix | None = Field(default=None, description="left out where the text ends with it")
    regex: Annotated[str, AfterValidator(_regex)] | None = Field(
        default=None,
        description="a regular expression of RE2 with one capture group, searched in the text; no match is no user",
        examples=["^user_([0-9]+)$"],
    )

    @model_validator(mode="after")
    def _one(self) -> "Step":
        if sum(way is not None for way in (self.strip_prefix, self.strip_suffix, self.regex)) != 1:
            raise ValueError("needs one of strip_prefix, strip_suffix and regex; for several steps write a list")
        return self

    def change(self) -> Callable[[str], str | None]:
        """Prepare the step."""
        if self.strip_prefix is not None:
            prefix = self.strip_prefix
            return lambda text: text.removeprefix(prefix)
        if self.strip_suffix is not None:
            suffix = self.strip_suffix
            return lambda text: text.removesuffix(suffix)
        pattern = compile_regex(self.regex or "")

        def capture(text: str) -> str | None:
            found = {match.group(1) for match in pattern.finditer(text)}
            return found.pop() if len(found) == 1 else None

        return capture


def _read_step(value: Any, _handler: Any) -> Any:
    if isinstance(value, dict):
        return Step.model_validate(value)
    if isinstance(value, Step) or value == "lower":
        return value
    if value in _WORDS:
        raise ValueError(f"{value} needs to be told what; write {{{value}: TEXT}}")
    if isinstance(value, str):
        raise ValueError(f"{value!r} is an {unknown('transform', value, _WORDS)}")
    raise ValueError("is no transform; write lower, {strip_prefix: TEXT}, {strip_suffix: TEXT} or {regex: PATTERN}")


Steps = Annotated[
    tuple[Annotated[Literal["lower"] | Step, WrapValidator(_read_step)], ...],
    OneOrMany(),
]
"""One step, or a list that is applied in order."""


def transform(steps: Sequence[str | Step], placeholders: frozenset[str]) -> Callable[[str], str | None]:
    """Prepare the steps. What comes back changes a trimmed text that is no placeholder.

    After each step the text is trimmed, and a placeholder is no user, in lower case neither. Then, and when a regular
    expression does not match or captures distinct texts, the result is None.
    """
    barred = placeholders.union(map(str.lower, placeholders))
    changes = [step.change() if isinstance(step, Step) else str.lower for step in steps]

    def changed(text: str) -> str | None:
        for change in changes:
            after = change(text)
            if after is None or (text := after.strip()) in barred:
                return None
        return text

    return changed
