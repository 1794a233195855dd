"""Kinds of configuration values that policies use: one or many, texts to compare with, status rules, quantities."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from otel_usageflow.config.nearest import nearest
from otel_usageflow.policy.grpc import CODES, code_named
from otel_usageflow.policy.quantity import exact
from otel_usageflow.policy.text import plain_text


def secret_is_missing(why: str) -> ValidationError:
    """The error of a model whose `secret` is needed and empty, at the secret's own place."""
    problem = PydanticCustomError("secret_missing", "is required {why}", {"why": why})
    return ValidationError.from_exception_data(
        "secret", [InitErrorDetails(type=problem, loc=("secret",), input=None)]
    )


class OneOrMany:
    """On a tuple: a single value may stand in place of a list of one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._listed, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(schema)
        return {"anyOf": [many["items"], {**many, "minItems": 1}]}

    @staticmethod
    def _listed(value: Any) -> Any:
        if value in ([], ()):
            raise ValueError("the list is empty; write at least one entry, or leave the key out")
        return value if isinstance(value, list | tuple) else [value]


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""Text that is not blank."""
Names = Annotated[tuple[Name, ...], OneOrMany()]


def _comparable(value: Any) -> str:
    if isinstance(value, Decimal):
        value = float(value)
    text = plain_text(value) if isinstance(value, str | bool | int | float) else None
    if text is None:
        raise ValueError("must be text, a number, true or false")
    return text


Comparable = Annotated[str, BeforeValidator(_comparable, json_schema_input_type=str | int | float | bool)]
"""A value to compare an attribute with, by its text."""
Comparables = Annotated[tuple[Comparable, ...], OneOrMany()]

_STATUS: Final = re.compile(r"[1-5]xx|[1-5][0-9][0-9]|any")


def _status(value: Any) -> str:
    if isinstance(value, str) and (code := code_named(value)):
        return code
    text = str(value).strip().lower() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not _STATUS.fullmatch(text):
        guess = nearest(text, CODES)
        raise ValueError(
            "is no status rule; write 2xx, a code such as 404, a list of them, or any; for gRPC a name such as OK"
            + (f"; did you mean {guess}?" if guess else "")
        )
    return text


Status = Annotated[str, BeforeValidator(_status, json_schema_input_type=str | int)]
"""`2xx`, `404` or `any`; of gRPC the name of a code."""
Statuses = Annotated[tuple[Status, ...], OneOrMany()]


def allowed_statuses(rules: Iterable[str]) -> frozenset[int | str | None]:
    """The status codes that the rules allow: numbers of HTTP, names of gRPC.

    None stands for a request without one, which only `any` allows. `2xx` is gRPC's OK, too.
    """
    allowed: set[int | str | None] = set()
    for rule in rules:
        if rule == "any":
            allowed.update((None, *range(100, 600), *CODES))
        elif rule in CODES:
            allowed.add(rule)
        elif rule.endswith("xx"):
            first = int(rule[0]) * 100
            allowed.update(range(first, first + 100))
            if rule == "2xx":
                allowed.add("OK")
        else:
            allowed.add(int(rule))
    return frozenset(allowed)


def fixed_quantity(value: Any) -> int | Decimal:
    """Read a quantity that is a number in the configuration.

    Raises:
        ValueError: it is none, is negative, or cannot be kept exactly.
    """
    if isinstance(value, Decimal):
        amount = exact(format(value, "f")) if value.is_finite() else None
    else:
        amount = exact(value) if isinstance(value, int | float | str) else None
    if amount is None:
        raise ValueError(
            "is no quantity; write a number from 0 to below 10^18 with at most 18 decimals, `{attribute: KEY}`, "
            "`{attributes: [KEY, ...]}`, `{expression: CEL}` or `{from: trace, attributes: [KEY, ...]}`"
        )
    return amount


FixedQuantity = int | Annotated[Decimal, BeforeValidator(fixed_quantity)]
"""An exact number, not negative; an int where it is whole."""
