"""How much a request is billed for: exact, or not at all."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError
from span_builder import http, judge, only, policy

from otel_usageflow.policy.quantity import total
from otel_usageflow.policy.text import decimal_text

USER = {"http.request.header.x-account-id": "acme"}

AMOUNTS: list[tuple[Any, int | Decimal | None]] = [
    (5, 5),
    (0, 0),
    (10**18 - 1, 10**18 - 1),
    (10**18, None),
    (-1, None),
    (True, None),
    (1.5, Decimal("1.5")),
    (2.0, 2),
    (0.1, Decimal("0.1")),
    (1e-7, Decimal("0.0000001")),
    (1e-18, Decimal("1e-18")),
    (1e-19, None),
    (1e18, None),
    (1e300, None),
    (-0.0, 0),
    (-1.5, None),
    (float("nan"), None),
    (float("inf"), None),
    ("12", 12),
    ("12.5", Decimal("12.5")),
    ("12.50", Decimal("12.5")),
    ("007", 7),
    ("0.000000000000000001", Decimal("1e-18")),
    ("0.0000000000000000001", None),
    ("999999999999999999", 10**18 - 1),
    ("1000000000000000000", None),
    ("", None),
    (" 12", None),
    ("+12", None),
    ("-12", None),
    ("1e3", None),
    ("1_000", None),
    ("1,5", None),
    (".5", None),
    ("5.", None),
    ("٣", None),
    ("0x10", None),
    ("nan", None),
    ("9" * 100_000, None),
    ([5], 5),
    (["5"], 5),
    ([5, 6], None),
    ([], None),
    (None, None),
    (b"5", None),
    ({"n": 5}, None),
]


@pytest.mark.parametrize(("value", "quantity"), AMOUNTS, ids=lambda value: repr(value)[:25])
def test_a_quantity_from_an_attribute(value: Any, quantity: int | Decimal | None) -> None:
    """Numbers and plain decimal digits count exactly; anything else is bad_quantity, and is kept."""
    record = only(judge(http() | USER | {"tokens": value}, policy(quantity={"attribute": "tokens"})))
    assert record.quantity == quantity
    assert type(record.quantity) is type(quantity)
    assert record.reason == (None if quantity is not None else "bad_quantity")
    assert record.user == "acme"


def test_the_attribute_written_twice_is_bad() -> None:
    """Two values under one key are nobody's quantity; the same value twice is one."""
    rule = policy(quantity={"attribute": "tokens"})
    pairs = [*http().items(), *USER.items(), ("tokens", 5)]
    assert only(judge([*pairs, ("tokens", 6)], rule)).quantity is None
    assert only(judge([*pairs, ("tokens", 5)], rule)).quantity == 5


@pytest.mark.parametrize(
    ("attributes", "quantity"),
    [
        ({"in": 5, "out": 7}, 12),
        ({"in": 0.1, "out": 0.2}, Decimal("0.3")),
        ({"in": 0.5, "out": "1.5"}, 2),
        ({"in": 5}, None),
        ({"in": 5, "out": -1}, None),
        ({"in": 10**18 - 1, "out": 1}, None),
    ],
)
def test_several_attributes_are_summed_exactly(attributes: Any, quantity: Any) -> None:
    """All of them have to be there and good."""
    record = only(judge(http() | USER | attributes, policy(quantity={"attributes": ["in", "out"]})))
    assert record.quantity == quantity


def test_no_user_comes_before_a_bad_quantity() -> None:
    """A request with neither is quarantined as no_user."""
    assert only(judge(http(), policy(quantity={"attribute": "tokens"}))).reason == "no_user"


@pytest.mark.parametrize(
    ("written", "quantity"),
    [
        (1, 1),
        (0, 0),
        (2.5, Decimal("2.5")),
        (Decimal("0.1"), Decimal("0.1")),
        ("12.5", Decimal("12.5")),
        (Decimal("2.0"), 2),
    ],
)
def test_a_fixed_quantity(written: Any, quantity: Any) -> None:
    """A number in the configuration is exact, whole ones are integers; without one it is 1."""
    assert only(judge(http() | USER, policy(quantity=written))).quantity == quantity
    assert only(judge(http() | USER, policy())).quantity == 1


@pytest.mark.parametrize(
    "written",
    [-1, True, "many", Decimal("NaN"), 10**18, Decimal("1e-19"), {}, {"attribute": "a", "attributes": ["b"]}, [1]],
)
def test_a_fixed_quantity_that_is_none_is_refused(written: Any) -> None:
    """Negative, too large, too fine, or no number at all: an error at start."""
    with pytest.raises(ValidationError):
        policy(quantity=written)


def test_sums_are_exact() -> None:
    """A sum loses nothing: neither beside large numbers nor over many small ones."""
    assert total([10**17, Decimal("0.000000000000000001")]) == Decimal("100000000000000000.000000000000000001")
    assert total([Decimal("0.1")] * 10) == 1
    assert total([]) == 0
    assert decimal_text(Decimal("1E+3")) == "1000"
    assert decimal_text(Decimal("1E-18")) == "0.000000000000000001"


def test_payload_is_text_from_attributes() -> None:
    """Further keys come from the span, else the resource; missing and blank ones are left out, long ones are cut."""
    rule = policy(
        payload={
            name: {"attribute": key}
            for name, key in (
                ("model", "m"),
                ("n", "n"),
                ("b", "b"),
                ("gone", "x"),
                ("blank", "s"),
                ("long", "l"),
                ("z", "r"),
                ("f", "f"),
            )
        }
    )
    attributes = {"m": ["gpt"], "n": 5, "b": True, "s": " ", "l": "x" * 200, "f": 0.25}
    record = only(judge(http() | USER | attributes, rule, resource={"r": "eu"}))
    assert record.payload == (
        ("b", "true"),
        ("f", "0.25"),
        ("long", "x" * 100),
        ("model", "gpt"),
        ("n", "5"),
        ("z", "eu"),
    )


@pytest.mark.parametrize("name", ["stripe_customer_id", "value"])
def test_payload_keys_that_stripe_reads_are_refused(name: str) -> None:
    """Who and how much cannot be overwritten."""
    with pytest.raises(ValidationError, match="choose another key"):
        policy(payload={name: {"attribute": "a"}})
