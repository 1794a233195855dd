"""Redacted input is told apart from input without a user, and two instrumentations from one."""

from typing import Any

import pytest
from span_builder import NOW, engine, http, payload, policy, span

HEADER = "http.request.header."


@pytest.mark.parametrize(
    ("user", "attributes", "redacted"),
    [
        ({"header": "x-account-id"}, {HEADER + "x-account-id": ["[REDACTED]"]}, 1),
        ({"header": "x-account-id"}, {HEADER + "x-account-id": "-"}, 1),
        ({"header": "x-account-id"}, {HEADER + "x-account-id": " "}, 0),
        ({"header": "x-account-id"}, {}, 0),
        ({"header": "x-account-id"}, {HEADER + "x-account-id": ["a", "b"]}, 0),
        ({"header": "x-account-id"}, {HEADER + "x-account-id": "acme"}, 0),
        (
            {"api_key": {"header": "authorization", "scheme": "bearer"}},
            {HEADER + "authorization": "Bearer [REDACTED]"},
            1,
        ),
        ({"query": "key"}, {"url.query": "key=REDACTED&sig=REDACTED"}, 1),
        ({"query": "key"}, {"url.query": "sig=REDACTED"}, 0),
    ],
)
def test_a_placeholder_in_the_place_of_the_user(user: Any, attributes: dict[str, Any], redacted: int) -> None:
    """Counted where no user was found and a placeholder stands where the policy looks, and nowhere else."""
    batch = engine(policy(user=user)).evaluate(payload(span(http() | attributes)), NOW)
    (record,) = batch.records
    assert (record.user is None) == ("acme" not in attributes.values())
    assert batch.redacted.total() == redacted


def test_requests_are_counted_by_the_scope_that_reports_them() -> None:
    """Only those that enter their process are; the inner span of an older SDK is no request of its scope."""
    outer, inner = span(http(), number=1, flags=0), span(http(), number=2, parent=1, flags=0)
    flagged = span(http(), number=3)
    batch = engine(policy()).evaluate(payload(outer, inner, flagged), NOW)
    assert batch.arrivals["shop"].entered == {"tests": 2}
    assert batch.requests == 2
