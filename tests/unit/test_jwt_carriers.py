"""Where a token stands on a span, and at which time it is judged."""

import json
from typing import Any

import pytest
from span_builder import NOW, engine, http, only, payload, policy, span, user_of
from tokens import SECRET, bearer, sign

AT = NOW // 10**9


@pytest.mark.parametrize(
    ("carrier", "attributes", "finds"),
    [
        ({"cookie": "session"}, {"http.request.header.cookie": ["a=1; session=TOKEN; b=2"]}, True),
        ({"cookie": "session"}, {"http.request.header.cookie": 'session="TOKEN"'}, True),
        ({"cookie": "session"}, {"http.request.header.cookie": ["a=1", "session=TOKEN"]}, True),
        ({"cookie": "session"}, {"http.request.header.cookie": "session=TOKEN; session=TOKEN"}, True),
        ({"cookie": "session"}, {"http.request.header.cookie": "session=TOKEN; session=x"}, False),
        ({"cookie": "session"}, {"http.request.header.cookie": "Session=TOKEN"}, False),
        ({"cookie": "session"}, {"http.request.header.cookie": "[REDACTED]"}, False),
        ({"cookie": "session"}, {"http.request.header.authorization": "Bearer TOKEN"}, False),
        ({"query": "token"}, {"url.query": "a=1&token=TOKEN"}, True),
        ({"query": "token"}, {"url.query": "token=TOKEN&token=x"}, False),
        ({"query": "token"}, {"url.full": "https://x/chat?token=TOKEN"}, True),
        ({"query": "token"}, {"http.request.header.token": "TOKEN"}, False),
    ],
)
def test_a_cookie_or_a_parameter_may_carry_the_token(carrier: Any, attributes: Any, finds: bool) -> None:
    """The one that is named and no other; two different ones are none."""
    token = sign(SECRET, {"sub": "acme"}, "HS256")
    placed = json.loads(json.dumps(attributes).replace("TOKEN", token))
    source = {"jwt": {"claim": "sub", "verify": {"secret": SECRET.decode()}, **carrier}}
    assert user_of(placed, source) == ("acme" if finds else None)


@pytest.mark.parametrize(
    ("carrier", "says"),
    [
        ({"cookie": "a", "header": "b"}, "header and cookie: write only one of them"),
        ({"cookie": "a", "query": "b"}, "cookie and query: write only one of them"),
        ({"cookie": "a", "scheme": "bearer"}, "scheme belongs to a header; a cookie has none"),
    ],
)
def test_a_token_stands_in_one_place(carrier: Any, says: str) -> None:
    """Several places are several sources."""
    with pytest.raises(ValueError, match=says):
        policy(user={"jwt": {"claim": "sub", "verify": "none", **carrier}})


def test_the_span_s_start_is_the_time_that_counts() -> None:
    """A request that began before the token expired and ended after is billed, whenever it arrives."""
    source = {"jwt": {"claim": "sub", "verify": {"secret": SECRET.decode()}}}
    expires = AT - 1000
    token = bearer(sign(SECRET, {"sub": "acme", "exp": expires}, "HS256"))
    for start, end, user in (
        (expires * 10**9 - 1000, expires * 10**9 + 10**12, "acme"),
        (expires * 10**9, expires * 10**9 + 1, None),
        (0, expires * 10**9 - 10**6, "acme"),
    ):
        request = span(http() | token, start=start, end=end)
        assert only(engine(policy(user=source)).evaluate(payload(request), NOW)).user == user
