"""The double's search language: any value, once escaped, finds exactly itself."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.testing.stripe.customer import Customer
from otel_usageflow.testing.stripe.failures import StripeFailure
from otel_usageflow.testing.stripe.search_query import compile_query

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def customer(metadata: dict[str, str], created: int = 100) -> Customer:
    """A customer with this metadata."""
    return Customer("cus_1", created, 0, False, metadata, email="Ann@Example.org")


def escape(value: str, quote: str) -> str:
    """The value as it stands inside quotes."""
    return value.replace("\\", "\\\\").replace(quote, "\\" + quote)


@given(TEXT, TEXT, TEXT, st.sampled_from("\"'"))
def test_an_escaped_value_finds_itself_and_nothing_else(key: str, value: str, other: str, quote: str) -> None:
    """Whatever stands in a key or value, the escaped query matches that value only, in any case."""
    query = f"metadata[{quote}{escape(key, quote)}{quote}]:{quote}{escape(value, quote)}{quote}"
    test = compile_query(query)
    assert test(customer({key: value}))
    assert test(customer({key: other})) == (other.casefold() == value.casefold())
    assert not test(customer({}))


@given(st.text(max_size=40))
def test_any_text_is_a_query_or_a_refusal(query: str) -> None:
    """No query breaks the parser: nothing but a refusal is raised, and what was compiled runs."""
    with contextlib.suppress(StripeFailure):
        compile_query(query)(customer({"a": "1"}))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("created:100", True),
        ("created>100", False),
        ("created>=100", True),
        ("created<100", False),
        ("created<=100", True),
        ("created=100", True),
        ("-created=100", False),
        ('email:"ann@example.org"', True),
        ('email~"NN@"', True),
        ('metadata["a"]:"1" metadata["b"]:"2"', True),
        ('metadata["a"]:"1" OR metadata["b"]:"x"', True),
        ('metadata["a"]:"x" AND metadata["b"]:"2"', False),
        ('metadata["c"]:null', True),
        ('-metadata["a"]:null', True),
    ],
)
def test_every_operator_means_what_it_says(query: str, found: bool) -> None:
    """Numbers, substrings, negation, presence and the joints."""
    assert compile_query(query)(customer({"a": "1", "b": "2"})) is found


@pytest.mark.parametrize(
    "query",
    [
        "",
        "AND",
        'OR metadata["a"]:"1"',
        'metadata["a"]:"1" AND AND metadata["b"]:"1"',
        'metadata["a"]:"1" OR metadata["b"]:"1" metadata["c"]:"1"',
        'metadata["a"]:"1',
        'metadata[a]:"1"',
        'metadata:"1"',
        'metadata["a"]~"abc"',
        'email["a"]:"1"',
        "created~5",
        'created:"5"',
        "(created:5)",
        " ".join(["created:5"] * 11),
    ],
)
def test_what_is_no_query_is_refused(query: str) -> None:
    """Mixed joints, missing quotes, unknown fields and too many clauses are a 400 that names `query`."""
    with pytest.raises(StripeFailure) as caught:
        compile_query(query)
    assert caught.value.answer.status == 400
