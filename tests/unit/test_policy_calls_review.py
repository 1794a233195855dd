"""What is said at the start about gRPC and GraphQL endpoints: what can never bill, and what can never find a user."""

from typing import Any

import pytest
from span_builder import policy

from otel_usageflow.processors.usage_policy import FACTORY, UsagePolicyConfig


def reviewed(*changes: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Errors and remarks about a set of policies."""
    policies = [
        policy(**{"name": f"p{number}", **change}).model_dump(mode="json", exclude_unset=True)
        for number, change in enumerate(changes)
    ]
    loaded = UsagePolicyConfig.model_validate({"policies": policies})
    return [str(one) for one in FACTORY.check(loaded)], [str(one) for one in FACTORY.warn(loaded)]


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("grpc *", "grpc shop.Orders/Get"),
        ("grpc shop.Orders/*", "grpc shop.Orders/Get"),
        ("grpc shop.Orders/Get", "grpc /shop.Orders/Get"),
        ("graphql *", "graphql query Prices"),
        ("graphql query *", "graphql query Prices"),
        ("graphql * Prices", "graphql query Prices"),
        ("* /**", "graphql query Prices"),
    ],
)
def test_a_wider_policy_of_the_same_event_name(wide: str, narrow: str) -> None:
    """The later one never bills, which is said; the other way round there is nothing to say."""
    (remark,) = reviewed({"endpoint": wide}, {"endpoint": narrow})[1]
    assert remark.startswith("policies::1: the policy p1 never bills: p0 stands before it")
    assert reviewed({"endpoint": wide}, {"endpoint": narrow, "event_name": "other"})[1] == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("grpc shop.Orders/Get", "grpc shop.Orders/*"),
        ("grpc shop.Orders/*", "grpc shop.Billing/Get"),
        ("graphql query *", "graphql mutation *"),
        ("graphql query Prices", "graphql query *"),
        ("POST /**", "graphql query Prices"),
        ("* /**", "grpc shop.Orders/Get"),
        ("grpc *", "POST /chat"),
        ("graphql *", "POST /graphql"),
    ],
)
def test_policies_that_leave_each_other_something(first: str, second: str) -> None:
    """Nothing is said where the later one takes what the earlier does not."""
    assert reviewed({"endpoint": first}, {"endpoint": second}) == ([], [])


def test_sources_that_a_call_does_not_have() -> None:
    """No path parameter is an error, as for paths; no query is a remark."""
    errors, _ = reviewed({"endpoint": "grpc *", "user": {"path": "id"}})
    assert errors == [
        "policies::0::user::path: no endpoint of p0 has a parameter id; write it as in `POST /accounts/:id`"
    ]
    for source in (
        {"query": "a"},
        {"api_key": {"query": "a"}},
        {"jwt": {"claim": "sub", "query": "a", "verify": "none"}},
    ):
        (remark,) = [one for one in reviewed({"endpoint": "grpc *", "user": source})[1] if "query" in one]
        assert remark.endswith("a gRPC call has no query, so it finds no user there")
        assert not [
            one for one in reviewed({"endpoint": ["grpc *", "GET /a"], "user": source})[1] if "no query" in one
        ]


def test_match_on_rpc_attributes() -> None:
    """What never fits a path may fit a gRPC method."""
    match = {"attributes": {"rpc.system": "grpc"}}
    assert "never matches" in reviewed({"match": match})[1][0]
    assert reviewed({"match": match, "endpoint": "grpc *"})[1] == []
