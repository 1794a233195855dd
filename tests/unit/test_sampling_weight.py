"""How many requests a span stands for: what is read from a trace state, and what is not believed."""

from decimal import Decimal
from fractions import Fraction

import pytest

from otel_usageflow.policy.sampling import FULL, Doubt, weight
from otel_usageflow.policy.weighing import weighed

HIGHEST = bytes(9) + b"\xff" * 7
"""A trace id that passes every threshold."""
LOWEST = b"\xff" * 9 + bytes(7)
"""One that passes only the threshold 0."""


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("0", Fraction(1)),
        ("8", Fraction(2)),
        ("c", Fraction(4)),
        ("e666", Fraction(0x10000, 0x10000 - 0xE666)),
        ("fd70a", Fraction(0x100000, 0x100000 - 0xFD70A)),
        ("00000000000001", Fraction(FULL, FULL - 1)),
        ("ffffffffffffff", Fraction(FULL)),
        ("80000000000000", Fraction(2)),
    ],
)
def test_a_threshold_is_an_exact_weight(value: str, count: Fraction) -> None:
    """The weight is 2^56 / (2^56 - T), exactly, where zeros at the end of T may be left out."""
    assert weight(f"ot=th:{value}".encode(), HIGHEST) == count


@pytest.mark.parametrize(
    "state",
    [
        "ot=th:c",
        "vendor=a, ot=th:c",
        " ot=th:c ,vendor=b=c",
        "\tot=th:c",
        "ot=th:c;",
        "ot=xx:1;th:c;yy",
        "ot=th:c;p:3",
        "ot=th:c,ot=th:c",
        "ot=th:c;th:c",
        "rot=th:8,ot=th:c,ot2=th:8",
        ",,=,ot=th:c,===",
        "ot=th:c;rv:nothex",
    ],
)
def test_what_is_around_it_does_not_matter(state: str) -> None:
    """The member `ot` is found among others, with blanks, empty members and fields that nobody knows."""
    assert weight(state.encode(), HIGHEST) == 4


@pytest.mark.parametrize(
    "state", ["", "vendor=a", "ot", "ot=", "ot=rv:00000000000000", "robot=th:c", "OT=th:c", "ot=TH:c"]
)
def test_most_trace_states_say_nothing(state: str) -> None:
    """Without `th` and `p` of `ot` there is no weight, and no reason to complain."""
    assert weight(state.encode(), HIGHEST) is None


@pytest.mark.parametrize(
    "state",
    [
        b"ot=th:",
        b"ot=th:g",
        b"ot=th:C",
        b"ot=th:-1",
        b"ot=th: c",
        b"ot=th:0x8",
        b"ot=th:123456789012345",
        b"ot=th:\xff\xfe",
        b"ot=th:\xd9\xa3",
        b"ot=th:8,ot=th:c",
        b"ot=th:8;th:c",
        b"ot=p:64",
        b"ot=p:-1",
        b"ot=p:",
        b"ot=p:0x1",
        b"ot=p:\xb2",
    ],
)
def test_what_is_malformed_is_no_weight(state: bytes) -> None:
    """A threshold that is none, and two different ones, are told apart from saying nothing."""
    assert weight(state, HIGHEST) is Doubt.MALFORMED


def test_the_old_form() -> None:
    """`p:N` stands for 2^N requests; `p:63` for none, which would be free of charge for whoever sends it."""
    assert weight(b"ot=p:0;r:62", LOWEST) == 1
    assert weight(b"ot=p:3;r:5", LOWEST) == 8
    assert weight(b"ot=p:62", LOWEST) == 1 << 62
    assert weight(b"ot=p:63", LOWEST) is Doubt.NO_COUNT


def test_a_span_that_would_not_have_been_kept() -> None:
    """A threshold above the trace id's randomness was not applied to this request."""
    assert weight(b"ot=th:8", bytes(8) + b"\xff\x80" + bytes(6)) == 2
    assert weight(b"ot=th:8", bytes(8) + b"\xff\x7f" + b"\xff" * 6) is Doubt.INCONSISTENT
    assert weight(b"ot=th:0", LOWEST) == 1


def test_explicit_randomness_goes_before_the_trace_id() -> None:
    """`rv` says by what the span was kept, where the trace id does not."""
    assert weight(b"ot=th:8;rv:80000000000000", LOWEST) == 2
    assert weight(b"ot=rv:7fffffffffffff;th:8", HIGHEST) is Doubt.INCONSISTENT


def test_a_long_trace_state_is_not_read_to_its_end() -> None:
    """What stands behind 8,192 bytes is not looked at; W3C asks for 512 characters."""
    assert weight(b"a=" + b"b" * 600 + b",ot=th:c", HIGHEST) == 4
    assert weight(b"a=" + b"b" * 9_000 + b",ot=th:c", HIGHEST) is None


@pytest.mark.parametrize(
    ("quantity", "count", "product"),
    [
        (1, Fraction(4), 4),
        (3, Fraction(8, 5), Decimal("4.8")),
        (Decimal("0.000000000000000001"), Fraction(4), Decimal("0.000000000000000004")),
        (Decimal("2.50"), Fraction(2), 5),
        (0, Fraction(FULL), 0),
        (1, Fraction(1, 1), 1),
        (3, Fraction(4, 3), 4),
        (1, Fraction(4, 3), Decimal("1.333333333")),
        (1, Fraction(5, 3), Decimal("1.666666667")),
        (1000, Fraction(0x10000, 0x10000 - 0xE666), Decimal("9999.389685688")),
        (10**17, Fraction(9), 9 * 10**17),
        (10**17 - 1, Fraction(28, 3), Decimal(933333333333333324)),
    ],
)
def test_a_product_is_exact_or_rounded_once(quantity: int | Decimal, count: Fraction, product: int | Decimal) -> None:
    """What has at most 18 decimals is exact; the rest is rounded to 9, and whole numbers are integers."""
    result = weighed(quantity, count)
    assert result == product
    assert type(result) is type(product) or result == int(product)
    assert str(result) == str(product)


def test_it_is_rounded_to_the_nearest() -> None:
    """The error is at most half of the last decimal; a tie has a finite decimal, so it is never rounded."""
    tiny = Decimal("0.000000001")
    assert weighed(tiny, Fraction(5, 2) + Fraction(1, 7 * 10**9)) == Decimal("0.000000003")
    assert weighed(tiny, Fraction(5, 2) - Fraction(1, 7 * 10**9)) == Decimal("0.000000002")
    assert weighed(tiny, Fraction(5, 2)) == Decimal("0.0000000025")


@pytest.mark.parametrize(
    ("quantity", "count"), [(10**17, Fraction(10)), (10**18 - 1, Fraction(4, 3)), (1, Fraction(10**18))]
)
def test_what_is_too_large_is_none(quantity: int, count: Fraction) -> None:
    """A product from 10^18 on cannot be billed."""
    assert weighed(quantity, count) is None
