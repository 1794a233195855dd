"""Values in JSON texts that others wrote: bodies and tokens. Nothing in them is trusted to be there once."""

import json
from typing import Any, Final

from otel_usageflow.model.attributes import OPAQUE, Scalar, Value

MAX_LENGTH: Final = 1_048_576
"""Characters; what is longer is not read."""


class _Object(dict[str, list[Any]]):
    """A JSON object that keeps every value of a repeated name."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        for name, value in pairs:
            self.setdefault(name, []).append(value)


def parse_json(text: str) -> Any:
    """Parse JSON; None if it is none, is cut off, or is too long."""
    if len(text) > MAX_LENGTH:
        return None
    try:
        return json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        return None


def values_at(document: Any, steps: list[str]) -> list[Value]:
    """All values at a path of names and list positions; several where a name was repeated."""
    found = [document]
    for step in steps:
        found = [below for value in found for below in _below(value, step)]
    return [_value(value) for value in found]


def claim_values(document: Any, steps: list[str]) -> list[Value]:
    """All values of a claim, whose name may itself hold dots: `https://example.com/org.tenant`."""
    found: list[Value] = []
    for count in range(1, len(steps) + 1):
        for value in _below(document, ".".join(steps[:count])):
            found += claim_values(value, steps[count:]) if count < len(steps) else [_value(value)]
    return found


def _below(value: Any, step: str) -> list[Any]:
    if isinstance(value, _Object):
        return value.get(step, [])
    if isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 10 and int(step) < len(value):
        return [value[int(step)]]
    return []


def _value(value: Any) -> Value:
    return [_scalar(element) for element in value] if isinstance(value, list) else _scalar(value)


def _scalar(value: Any) -> Scalar:
    return value if value is None or isinstance(value, str | int | float | bool) else OPAQUE
