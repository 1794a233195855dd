"""Exact amounts: how quantities are added, written and cut to what Stripe takes. Never a float."""

from decimal import Context, Decimal

from otel_usageflow.model.usage import Quantity

SIGNIFICANT_DIGITS = 15
"""What Stripe takes in one value (changelog 2026-04-22)."""

_EXACT = Context(prec=200)
_INT64 = 2**62


def add(left: Quantity, right: Quantity) -> Quantity:
    """The exact sum; an int when it is whole."""
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    return normal(_EXACT.add(Decimal(left), Decimal(right)))


def negative(value: Quantity) -> Quantity:
    """The amount with the other sign, exactly."""
    return -value if isinstance(value, int) else normal(value.copy_negate())


def normal(value: Quantity) -> Quantity:
    """The same amount as an int when it is whole, else as a Decimal without trailing zeros."""
    if isinstance(value, int):
        return value
    if value == value.to_integral_value():
        return int(value)
    return value.normalize(_EXACT)


def plain(value: Quantity) -> str:
    """Plain decimal text: digits and at most one point, never an exponent."""
    value = normal(value)
    return str(value) if isinstance(value, int) else format(value, "f")


def stored(value: Quantity) -> int | str:
    """The amount as it is kept in the database: a 64-bit integer where it fits, else text."""
    if not isinstance(value, int):
        value = normal(value)
    return value if isinstance(value, int) and -_INT64 < value < _INT64 else plain(value)


def restored(value: int | str) -> Quantity:
    """The amount that `stored` wrote."""
    return value if isinstance(value, int) else normal(Decimal(value))


def parts(value: Quantity) -> list[Quantity]:
    """Cut an amount into the fewest amounts of at most 15 significant digits that add up to it.

    Sums of many fractions can grow longer than Stripe takes in one value; for a meter that sums, several events
    say the same. Nearly always the answer is the amount itself.
    """
    sign, digits, exponent = Decimal(plain(value)).as_tuple()
    assert isinstance(exponent, int)  # an amount is finite
    text = "".join(map(str, digits)).lstrip("0")
    if len(text.rstrip("0")) <= SIGNIFICANT_DIGITS:
        return [normal(value)]
    cut: list[Quantity] = []
    while text:
        head, text = text[:SIGNIFICANT_DIGITS], text[SIGNIFICANT_DIGITS:]
        part = Decimal((sign, tuple(map(int, head)), exponent + len(text)))
        if part:
            cut.append(normal(part))
    return cut
