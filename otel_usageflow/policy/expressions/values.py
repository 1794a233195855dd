"""Attributes as an expression sees them: only what has a plain form in CEL, and nothing large."""

from collections.abc import Mapping, Sequence
from typing import Final

from otel_usageflow.model.attributes import Found, Scalar, Value, Wanted, decode_found, name_of
from otel_usageflow.policy.text import is_clean

MAX_LENGTH: Final = 65_536
"""Characters or bytes of a value; a larger one is absent, so that a caller cannot make an evaluation long."""
MAX_ELEMENTS: Final = 1_000
"""Elements of a list, likewise."""


def visible(value: Value) -> bool:
    """Whether an expression can see a value.

    Not: an empty one, a map, a list in a list or with such elements, text that is not UTF-8, what is too large.
    """
    if isinstance(value, list):
        return len(value) <= MAX_ELEMENTS and all(map(_scalar_visible, value))
    return _scalar_visible(value)


def _scalar_visible(value: Scalar) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_LENGTH and (value.isascii() or is_clean(value))
    return isinstance(value, int | float) or (isinstance(value, bytes) and len(value) <= MAX_LENGTH)


def some(found: Found, keys: Sequence[str]) -> Mapping[str, Value]:
    """Those of these attributes that are there and can be seen.

    Raises:
        InvalidData: an attribute is no `KeyValue`.
    """
    seen: dict[str, Value] = {}
    for key in keys:
        if key in found and visible(value := decode_found(found[key])):
            seen[key] = value
    return seen


def everything(attributes: Sequence[bytes]) -> Mapping[str, Value]:
    """All attributes that can be seen; many times slower than `some`.

    Raises:
        InvalidData: an attribute is no `KeyValue`.
    """
    found = Wanted(filter(is_clean, map(name_of, attributes))).find(attributes)
    return some(found, tuple(found))
