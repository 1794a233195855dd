"""Reading of parameters: form names with brackets to a tree, and the tree against what an endpoint takes.

Everything refused here is a validation failure: it is answered before execution begins and never stored.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from otel_usageflow.testing.stripe.failures import invalid
from otel_usageflow.testing.stripe.message import Pairs

Tree = dict[str, Any]
Reader = Callable[[str, Any], Any]
"""Takes the parameter's full name and its raw value; returns the value or raises `StripeFailure`."""

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_DIGITS = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of an endpoint."""

    read: Reader
    required: bool = False


@lru_cache(maxsize=4096)
def _segments(name: str) -> tuple[str, ...]:
    match = _NAME.fullmatch(name)
    if match is None:
        return (name,)
    return (match[1], *(match[2][1:-1].split("][") if match[2] else ()))


def tree_of(pairs: Pairs) -> Tree:
    """Nest `a[b]=1&c[]=2&c[]=3` as `{"a": {"b": "1"}, "c": {"0": "2", "1": "3"}}`; the last of equal names wins.

    Raises:
        StripeFailure: a name is both a value and a parent.
    """
    tree: Tree = {}
    for name, value in pairs:
        path = _segments(name)
        place = tree
        for segment in path[:-1]:
            place = place.setdefault(segment, {})
            if not isinstance(place, dict):
                raise invalid(f"Invalid parameter: {name}", name)
        place[path[-1] or str(len(place))] = value
    return tree


def check(params: Mapping[str, Param], tree: Tree, prefix: str = "") -> dict[str, Any]:
    """The values that were given, each read by its own rule.

    Raises:
        StripeFailure: 400 `parameter_unknown`, `parameter_missing`, or what the rule says.
    """
    values: dict[str, Any] = {}
    for name, raw in tree.items():
        full = f"{prefix}[{name}]" if prefix else name
        param = params.get(name)
        if param is None:
            raise invalid(f"Received unknown parameter: {full}", full, "parameter_unknown")
        values[name] = param.read(full, raw)
    for name, param in params.items():
        if param.required and name not in values:
            full = f"{prefix}[{name}]" if prefix else name
            raise invalid(f"Missing required param: {full}.", full, "parameter_missing")
    return values


def text(limit: int = 5_000, *, unset: bool = False) -> Reader:
    """A string of at most `limit` characters; empty only where that unsets something (None then)."""

    def read(name: str, raw: Any) -> str | None:
        if not isinstance(raw, str):
            raise invalid(f"Invalid string: {name}", name)
        if not raw:
            if unset:
                return None
            raise invalid(f"You passed an empty string for '{name}'.", name, "parameter_invalid_empty")
        if len(raw) > limit:
            raise invalid(f"Invalid string: {raw[:10]}...; must be at most {limit} characters", name)
        return raw

    return read


def choice(*allowed: str) -> Reader:
    """One of some words."""

    def read(name: str, raw: Any) -> str:
        if raw not in allowed:
            raise invalid(f"Invalid {name}: must be one of {', '.join(allowed)}", name)
        return str(raw)

    return read


def integer(low: int | None = None, high: int | None = None) -> Reader:
    """A whole number within bounds."""

    def read(name: str, raw: Any) -> int:
        if not isinstance(raw, str) or not _DIGITS.fullmatch(raw):
            raise invalid(f"Invalid integer: {raw}", name, "parameter_invalid_integer")
        number = int(raw)
        if (low is not None and number < low) or (high is not None and number > high):
            raise invalid(f"{name} must be between {low} and {high}", name)
        return number

    return read


def text_map(limit: int) -> Reader:
    """A flat map of strings, each at most `limit` characters; an empty string is kept."""

    def read(name: str, raw: Any) -> dict[str, str]:
        if not isinstance(raw, dict):
            raise invalid(f"Invalid object: {name}", name)
        for key, value in raw.items():
            if not isinstance(value, str):
                raise invalid(f"Invalid string: {name}[{key}]", f"{name}[{key}]")
            if len(value) > limit:
                message = f"Invalid string: {value[:10]}...; must be at most {limit} characters"
                raise invalid(message, f"{name}[{key}]")
        return raw

    return read


def metadata(name: str, raw: Any) -> dict[str, str]:
    """Up to 50 keys of 40 characters with values of 500; an empty string removes (docs.stripe.com/api/metadata)."""
    if raw == "":
        return {}
    values: dict[str, str] = text_map(500)(name, raw)
    if len(values) > 50:
        raise invalid("Metadata can have at most 50 keys.", name)
    for key in values:
        if len(key) > 40:
            raise invalid(f"Metadata keys can be up to 40 characters long: {key[:10]}...", name)
    return values


def shape(**params: Param) -> Reader:
    """An object with its own parameters."""

    def read(name: str, raw: Any) -> dict[str, Any]:
        if not isinstance(raw, dict):
            raise invalid(f"Invalid object: {name}", name)
        return check(params, raw, name)

    return read


def text_list(most: int) -> Reader:
    """A list of strings, written `name[]` or `name[0]`."""

    def read(name: str, raw: Any) -> list[str]:
        if not isinstance(raw, dict) or not all(isinstance(item, str) for item in raw.values()):
            raise invalid(f"Invalid array: {name}", name)
        if len(raw) > most:
            raise invalid(f"{name} can have at most {most} items", name)
        return list(raw.values())

    return read


def anything(_name: str, raw: Any) -> Any:
    """A parameter that the double keeps as it was sent."""
    return raw


_BOUNDS = {bound: Param(integer()) for bound in ("gt", "gte", "lt", "lte")}


def moments(name: str, raw: Any) -> dict[str, int]:
    """`created=N` or `created[gte]=N`: bounds in unix seconds, as `{"gte": N}`."""
    if isinstance(raw, dict):
        return check(_BOUNDS, raw, name)
    moment: int = integer()(name, raw)
    return {"gte": moment, "lte": moment}


EXPAND = {"expand": Param(anything)}
PAGING = {
    "limit": Param(integer(1, 100)),
    "starting_after": Param(text()),
    "ending_before": Param(text()),
} | EXPAND
