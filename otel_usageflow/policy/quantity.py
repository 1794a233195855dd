"""How much a request is billed for: exact numbers only, never a float."""

import re
from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Final

from otel_usageflow.model.attributes import Value
from otel_usageflow.model.usage import Quantity

LIMIT: Final = 10**18
"""Quantities stay below."""
MAX_DECIMALS: Final = 18

_DIGITS: Final = re.compile(r"[0-9]{1,60}(\.[0-9]{1,60})?")
_EXACT: Final = Context(prec=300)


def exact(value: Value) -> Quantity | None:
    """The exact number that a value is, or None if it is none that can be billed.

    Numbers, strings of plain decimal digits (`12`, `12.5`) and lists of one count. Negative numbers, booleans,
    numbers from 10^18 on and numbers with more than 18 decimals do not.
    """
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 0 <= value < LIMIT else None
    if isinstance(value, float):
        return _bounded(Decimal(repr(value)))
    if isinstance(value, str):
        return _bounded(Decimal(value)) if _DIGITS.fullmatch(value) else None
    return None


def total(quantities: Iterable[Quantity]) -> Quantity:
    """The exact sum."""
    whole, rest = 0, Decimal(0)
    for quantity in quantities:
        if isinstance(quantity, int):
            whole += quantity
        else:
            rest = _EXACT.add(rest, quantity)
    return _narrow(_EXACT.add(rest, whole)) if rest else whole


def bounded_total(quantities: Iterable[Quantity]) -> Quantity | None:
    """The exact sum, or None if it is too large to be billed."""
    result = total(quantities)
    return result if result < LIMIT else None


def difference(one: Quantity, other: Quantity) -> Quantity:
    """The first less the second, exact; negative where the second is larger."""
    return _narrow(_EXACT.subtract(Decimal(one), Decimal(other)))


def _bounded(number: Decimal) -> Quantity | None:
    if not number.is_finite() or not 0 <= number < LIMIT:
        return None
    number = number.normalize(_EXACT)
    exponent = number.as_tuple().exponent
    return _narrow(number) if isinstance(exponent, int) and exponent >= -MAX_DECIMALS else None


def _narrow(number: Decimal) -> Quantity:
    """An int where the number is whole, so that equal amounts are equal in form."""
    return int(number) if number == number.to_integral_value() else number.normalize(_EXACT)
