"""The sentences for mistakes in a configuration, in the words of the file and not of the library that found them."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from pydantic_core import ErrorDetails

from otel_usageflow.config.findings import Finding
from otel_usageflow.config.nearest import nearest, unknown
from otel_usageflow.config.place import Place
from otel_usageflow.config.shape import Shape

_FORMS: Mapping[str, str] = {
    "string": "text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "dict": "a mapping (key: value)",
    "mapping": "a mapping (key: value)",
    "model": "a mapping (key: value)",
    "dataclass": "a mapping (key: value)",
    "path": "a path",
}


def sentence(finding: Finding, shape: Shape) -> str:
    """What is wrong and what to do, for one finding. Values are quoted only where no secret can be."""
    quotable = not shape.may_hold_secret(finding.place)
    if finding.type == "missing":
        return "is required"
    if finding.type == "extra_forbidden":
        return unknown("key", str(finding.place[-1]), shape.keys(finding.place[:-1], finding.branch))
    if finding.type == "one_of":
        return f"needs one of the keys {_listed([str(error['loc'][-1]) for error in finding.alternatives])}"
    if finding.type == "union":
        expected = [_expectation(error) for error in finding.alternatives]
        return f"must be {_listed(expected)}{_instead(finding.error, quotable)}"
    if finding.error["loc"] and finding.error["loc"][-1] == "[key]":
        return f"has an invalid key: {_one(finding, shape, quotable)}"
    return _one(finding, shape, quotable)


def _one(finding: Finding, shape: Shape, quotable: bool) -> str:
    error = finding.error
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return without_secrets(str(context["error"]), error["input"], finding.place, shape)
    if kind in ("literal_error", "enum"):
        guess = nearest(error["input"], _words(error)) if isinstance(error["input"], str) and quotable else None
        meant = f"; did you mean {guess}?" if guess else ""
        return f"must be {_listed(_words(error))}{_instead(error, quotable)}{meant}"
    if expectation := _form(kind):
        hint = ' (put it in quotes: "...")' if kind == "string_type" and _is_scalar(error["input"]) else ""
        return f"must be {expectation}{_instead(error, quotable)}{hint}"
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}{_instead(error, quotable)}"
    if kind in ("string_too_short", "too_short") and context.get("min_length") == 1:
        return "must not be empty"
    if kind in ("too_short", "too_long", "string_too_short", "string_too_long"):
        least = "min_length" in context
        number = context["min_length" if least else "max_length"]
        unit = "characters" if kind.startswith("string") else "entries"
        return f"must have at {'least' if least else 'most'} {number} {unit}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"needs one of the keys {context.get('expected_tags') or context.get('discriminator')}"
    message = error["msg"]
    for start in ("Input should be ", "Value should be ", "Input should have ", "Value should have "):
        if message.startswith(start):
            verb = "be" if start.endswith("be ") else "have"
            return f"must {verb} {message.removeprefix(start)}{_instead(error, quotable)}"
    return without_secrets(message, error["input"], finding.place, shape)


def _form(kind: str) -> str | None:
    for ending in ("_attributes_type", "_type", "_parsing", "_from_float", "_parsing_size"):
        if kind.endswith(ending):
            return _FORMS.get(kind.removesuffix(ending))
    return None


def _expectation(error: ErrorDetails) -> str:
    if error["type"] in ("literal_error", "enum"):
        return _listed(_words(error))
    return _form(error["type"]) or error["msg"].removeprefix("Input should be ")


def _words(error: ErrorDetails) -> list[str]:
    expected = str(error.get("ctx", {}).get("expected", ""))
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]


def _listed(words: list[str]) -> str:
    distinct = list(dict.fromkeys(words))
    return distinct[0] if len(distinct) == 1 else f"{', '.join(distinct[:-1])} or {distinct[-1]}"


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float | Decimal)


def _instead(error: ErrorDetails, quotable: bool) -> str:
    value = error["input"]
    if isinstance(value, dict):
        return ", not a mapping"
    if isinstance(value, list):
        return ", not a list"
    if not quotable or value is None or not isinstance(value, str | bool | int | Decimal):
        return ""
    shown = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
    return f", not {shown!r}" if isinstance(value, str) else f", not {shown}"


def without_secrets(message: str, data: Any, place: Place, shape: Shape) -> str:
    """Take every text out of a message that stands in the data, at or below `place`, where a secret may be.

    Texts of up to three characters stay: they are no secrets, and words are made of them.
    """
    texts = [text for text in _texts_with_secrets(data, place, shape) if len(text) > 3]
    for text in sorted(texts, key=len, reverse=True):
        message = message.replace(text, "[REDACTED]")
    return message


def _texts_with_secrets(data: Any, place: Place, shape: Shape) -> Iterator[str]:
    if isinstance(data, dict):
        for key, below in data.items():
            yield from _texts_with_secrets(below, (*place, key), shape)
    elif isinstance(data, list):
        for index, below in enumerate(data):
            yield from _texts_with_secrets(below, (*place, index), shape)
    elif data is not None and shape.may_hold_secret(place):
        yield str(data)
