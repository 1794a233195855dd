"""What a span says about its GraphQL operation. Source: semantic-conventions docs/graphql/graphql-spans.md."""

from typing import Final

from otel_usageflow.model.attributes import Found, decode_found
from otel_usageflow.policy.text import one_text

TYPES: Final = ("query", "mutation", "subscription")
KEYS: Final = frozenset({"graphql.operation.type", "graphql.operation.name"})
"""What is read from every request where a policy has a GraphQL endpoint."""


def operation(found: Found) -> tuple[str | None, str | None] | None:
    """Type and name; None for what the span does not say, and None alone where it says nothing of GraphQL.

    Several distinct values, as of a batch of operations in one request, are neither.
    """
    if KEYS.isdisjoint(found):
        return None
    kind, name = (_text(found, key) for key in ("graphql.operation.type", "graphql.operation.name"))
    kind = kind.lower() if kind else None
    return kind if kind in TYPES else None, name or None


def _text(found: Found, key: str) -> str | None:
    raw = found.get(key)
    return None if raw is None else one_text((decode_found(raw),))
