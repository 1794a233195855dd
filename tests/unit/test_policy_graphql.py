"""GraphQL operations as endpoints: HTTP requests whose span says which operation they are."""

from typing import Any

import pytest
from pydantic import ValidationError
from span_builder import http, judge, policy

ACME = {"http.request.header.x-account-id": "acme"}


def request(kind: Any = "query", name: Any = "Prices", **more: Any) -> dict[str, Any]:
    """A request to /graphql that carries an operation."""
    told = {"graphql.operation.type": kind, "graphql.operation.name": name}
    return http("/graphql", **more) | ACME | {key: value for key, value in told.items() if value is not None}


def taken(attributes: Any, *policies: Any) -> list[str]:
    return [record.terms.policy for record in judge(attributes, *policies).records]


@pytest.mark.parametrize(
    ("endpoint", "fits"),
    [
        ("graphql query Prices", {("query", "Prices")}),
        ("graphql query *", {("query", "Prices"), ("query", None), ("query", "prices")}),
        ("graphql * Prices", {("query", "Prices"), ("mutation", "Prices"), (None, "Prices")}),
        ("graphql mutation *", {("mutation", "Prices")}),
        (["graphql subscription Prices", "GraphQL Mutation Prices"], {("mutation", "Prices")}),
    ],
)
def test_which_operations_fit(endpoint: Any, fits: set[tuple[str | None, str | None]]) -> None:
    """Type and name, each may be any; what the span does not say fits only what takes any."""
    operations = [("query", "Prices"), ("query", None), ("query", "prices"), ("mutation", "Prices"), (None, "Prices")]
    rule = policy(endpoint=endpoint)
    assert {one for one in operations if taken(request(*one), rule)} == fits
    everything = policy(endpoint=["graphql *"])
    assert all(taken(request(*one), everything) for one in operations)


def test_a_request_that_says_nothing_of_graphql() -> None:
    """Without an operation on its span a request fits no GraphQL endpoint, whatever its path."""
    batch = judge(http("/graphql") | ACME, policy(endpoint="graphql * *"))
    assert (batch.records, batch.requests, batch.unmatched) == ([], 1, 1)


@pytest.mark.parametrize(("kind", "name"), [(["query", "mutation"], "Prices"), ("fetch", "Prices"), (7, "Prices")])
def test_a_type_that_is_none(kind: Any, name: Any) -> None:
    """Several operations in one request, or a word that is no type, fit no type."""
    assert taken(request(kind, name), policy(endpoint="graphql query Prices")) == []
    assert taken(request(kind, name), policy(endpoint="graphql * Prices")) == ["chat"]


def test_several_operations_in_one_request() -> None:
    """A batch whose names are a list has no name: only what takes any takes it, and once."""
    batch = request(["query", "query"], ["Prices", "Stock"])
    assert taken(batch, policy(endpoint=["graphql query Prices", "graphql query Stock"])) == []
    assert taken(batch, policy(endpoint="graphql query *")) == ["chat"]


def test_paths_and_operations_together() -> None:
    """The same request may fit a path and an operation: of one event name the first in order has it, of two both."""
    path, operation = (
        policy(name="path", endpoint="POST /graphql"),
        policy(name="op", endpoint="graphql query Prices"),
    )
    assert taken(request(), path, operation) == ["path"]
    assert taken(request(), operation, path) == ["op"]
    other = policy(name="other", endpoint="graphql query Prices", event_name="prices")
    assert taken(request(), path, other) == ["path", "other"]
    both = policy(name="both", endpoint=["POST /graphql", "graphql query Prices"])
    assert taken(request(), both) == ["both"]


def test_status_and_errors() -> None:
    """The status is that of HTTP: GraphQL answers 200 to an operation that failed."""
    rule = policy(endpoint="graphql query Prices")
    assert taken(request(status=200), rule) == ["chat"]
    assert judge(request(status=400), rule).unbilled == {("chat", "status"): 1}


@pytest.mark.parametrize(
    "text", ["graphql", "graphql query", "graphql fetch X", "graphql query a-b", "graphql query A B"]
)
def test_what_is_no_graphql_endpoint(text: str) -> None:
    """The error shows a right one."""
    with pytest.raises(ValidationError, match="graphql query Prices"):
        policy(endpoint=text)
