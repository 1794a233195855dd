"""What the API does, the same in every framework: status codes, and two attributes on the SERVER span."""

import json

from opentelemetry import trace

PLAIN = ("key", "bearer", "query", "any", "redacted", "basic", "cookie", "baggage", "transform", "template/p1")
"""What below /by/ is answered with 200 and nothing else."""


def jwt(authorization: str | None) -> int:
    """An API that only asks for some token; whether it is a good one is for the bill to judge."""
    return 200 if authorization else 401


def items(org: str) -> int:
    """The items of an organisation."""
    return 404 if org == "ghost" else 200


def lookup(name: str) -> int:
    """A search that may find nothing."""
    return 404 if name == "nothing" else 200


def create(body: bytes) -> int:
    """Something is created from JSON."""
    try:
        json.loads(body)
    except ValueError:
        return 400
    return 201


def session(name: str | None) -> int:
    """The handler knows the user from its session, and says so on the span."""
    if name is not None:
        trace.get_current_span().set_attribute("enduser.id", name.removeprefix("session-of-"))
    return 200


def complete(body: bytes) -> int:
    """A chat completion that says on the span how many tokens it used."""
    tokens = json.loads(body).get("tokens")
    if tokens is not None:
        trace.get_current_span().set_attribute("app.tokens", tokens)
    return 200
