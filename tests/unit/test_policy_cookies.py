"""The header `cookie`: what is a cookie's value, and what is not."""

from typing import Any

import pytest

from otel_usageflow.policy.cookies import cookie_values


@pytest.mark.parametrize(
    ("captured", "values"),
    [
        ([["session=abc"]], ["abc"]),
        (["session=abc"], ["abc"]),
        (["a=1; session=abc; b=2"], ["abc"]),
        (["a=1;session=abc;b=2"], ["abc"]),
        (["session=a=b=="], ["a=b=="]),
        (['session="abc"'], ["abc"]),
        (['session="'], ['"']),
        (["session="], [""]),
        (["session"], []),
        (["Session=abc"], []),
        (["xsession=abc; session2=abc"], []),
        (["session=a%20b"], ["a%20b"]),
        (["session=a; session=b"], ["a", "b"]),
        ([["a=1", "session=abc"]], ["abc"]),
        ([["session=a"], "session=b"], ["a", "b"]),
        ([None], [None]),
        ([b"session=abc"], ["abc"]),
        ([b"\xff"], [None]),
        ([], []),
    ],
)
def test_a_cookie_is_found_by_its_name(captured: Any, values: Any) -> None:
    """Pairs stand between semicolons, names are exact, and every value under the name is there."""
    assert cookie_values(captured, "session") == values
