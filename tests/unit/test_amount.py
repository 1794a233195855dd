"""Exact amounts."""

from decimal import Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.ledger import amount

quantities = st.one_of(
    st.integers(min_value=0, max_value=10**18),
    st.decimals(min_value=0, max_value=10**18, allow_nan=False, allow_infinity=False, places=18),
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1E+2"), "100"),
        (Decimal("0.00001"), "0.00001"),
        (Decimal("3.1400"), "3.14"),
        (7, "7"),
        (Decimal(0), "0"),
    ],
)
def test_plain_never_has_an_exponent(value: Decimal | int, text: str) -> None:
    """What is sent is plain decimal text."""
    assert amount.plain(value) == text


@given(quantities, quantities)
def test_addition_is_exact(left: Decimal | int, right: Decimal | int) -> None:
    """Adding keeps every digit, and does not depend on the order."""
    exact = Context(prec=100)
    assert Decimal(amount.plain(amount.add(left, right))) == exact.add(Decimal(left), Decimal(right))
    assert amount.add(left, right) == amount.add(right, left)


@given(quantities)
def test_parts_add_up_and_each_is_short_enough(value: Decimal | int) -> None:
    """Cutting an amount loses nothing, and Stripe takes each part."""
    cut = amount.parts(value)
    total: Decimal | int = 0
    for part in cut:
        total = amount.add(total, part)
        digits = amount.plain(part).replace(".", "").strip("0")
        assert len(digits) <= amount.SIGNIFICANT_DIGITS
    assert total == amount.normal(value)


@given(quantities)
def test_storing_keeps_the_amount(value: Decimal | int) -> None:
    """What is read back is what was written."""
    assert amount.restored(amount.stored(value)) == value
