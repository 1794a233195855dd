"""The double's reading of forms: names with brackets, and what each kind of parameter takes."""

import urllib.parse
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.testing.stripe.failures import StripeFailure
from otel_usageflow.testing.stripe.message import Request
from otel_usageflow.testing.stripe.params import (
    Param,
    check,
    choice,
    integer,
    metadata,
    moments,
    shape,
    text,
    tree_of,
)

NAMES = st.text("abcdefgh_", min_size=1, max_size=5)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TREES: Any = st.recursive(
    st.dictionaries(NAMES, VALUES, min_size=1, max_size=4),
    lambda children: st.dictionaries(NAMES, VALUES | children, min_size=1, max_size=4),
    max_leaves=12,
)


def flatten(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """The form that a client makes of a tree."""
    pairs: list[tuple[str, str]] = []
    for name, value in tree.items():
        full = f"{prefix}[{name}]" if prefix else name
        pairs += flatten(value, full) if isinstance(value, dict) else [(full, value)]
    return pairs


def decoded(body: str) -> list[tuple[str, str]]:
    """The pairs that the double reads in a form."""
    request = Request("POST", "/", "", {}, body.encode())
    request.decode()
    return request.pairs


@given(TREES, st.booleans())
def test_every_tree_comes_back_from_its_form(tree: Any, encoded: bool) -> None:
    """A tree that was flattened and encoded, with brackets plain or encoded, is read as the same tree."""
    body = urllib.parse.urlencode(flatten(tree), safe="" if encoded else "[]")
    assert tree_of(decoded(body)) == tree


def test_lists_are_read_in_either_spelling() -> None:
    """`a[]` and `a[0]` are both lists, in the order of the form."""
    assert tree_of(decoded("a[]=x&a[]=y")) == tree_of(decoded("a[0]=x&a[1]=y")) == {"a": {"0": "x", "1": "y"}}


def test_the_last_of_equal_names_wins() -> None:
    """A name that is given twice has its last value."""
    assert tree_of(decoded("a=1&a=2")) == {"a": "2"}


@pytest.mark.parametrize("body", ["a=1&a[b]=2", "a[b]=1&a[b][c]=2"])
def test_a_name_is_not_both_value_and_parent(body: str) -> None:
    """A name cannot hold a value and further names."""
    with pytest.raises(StripeFailure):
        tree_of(decoded(body))


@pytest.mark.parametrize("name", ["a[b", "a]b[", "[a]", "a[b]c"])
def test_a_malformed_name_is_an_unknown_parameter(name: str) -> None:
    """Brackets that do not match make a name that no endpoint knows."""
    with pytest.raises(StripeFailure, match="unknown parameter"):
        check({"a": Param(text())}, tree_of([(name, "1")]))


def test_a_form_that_is_no_utf8_is_an_error() -> None:
    """Bytes that are not UTF-8, plain or percent-encoded, are refused."""
    for body in (b"\xff=1", b"a=%ff"):
        with pytest.raises(ValueError, match="utf-8"):
            Request("POST", "/", "", {}, body).decode()


def test_nested_parameters_are_named_with_their_path() -> None:
    """A refusal inside an object names the whole path."""
    params = {"outer": Param(shape(inner=Param(choice("x", "y"), required=True)))}
    for tree, named in (
        ({"outer": {"inner": "z"}}, "outer[inner]"),
        ({"outer": {"other": "x"}}, "outer[other]"),
        ({"outer": {}}, "outer[inner]"),
        ({"outer": "x"}, "outer"),
    ):
        with pytest.raises(StripeFailure) as caught:
            check(params, tree)
        assert caught.value.answer.body["error"]["param"] == named  # type: ignore[index]


@pytest.mark.parametrize("raw", ["1.0", "1e3", "", " 1", "+1", "٣", "9" * 19, {"a": "1"}])
def test_integers_are_plain_digits(raw: Any) -> None:
    """An integer is ASCII digits with at most a minus; nothing is rounded or guessed."""
    with pytest.raises(StripeFailure):
        integer()("n", raw)


def test_integers_have_bounds() -> None:
    """Bounds are inclusive."""
    read = integer(1, 100)
    assert [read("n", raw) for raw in ("1", "100")] == [1, 100]
    for raw in ("0", "101", "-1"):
        with pytest.raises(StripeFailure):
            read("n", raw)


def test_moments_are_one_or_bounds() -> None:
    """A bare moment is that second alone; bounds are kept as they are, and unknown ones refused."""
    assert moments("created", "5") == {"gte": 5, "lte": 5}
    assert moments("created", {"gt": "1", "lte": "2"}) == {"gt": 1, "lte": 2}
    with pytest.raises(StripeFailure):
        moments("created", {"after": "1"})


def test_an_empty_metadata_clears() -> None:
    """`metadata=` is an empty map, which removes all keys."""
    assert metadata("metadata", "") == {}
