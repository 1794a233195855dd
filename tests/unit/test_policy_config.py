"""Mistakes in policies: found at start, at their place, in the words of the configuration."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from span_builder import policy

from otel_usageflow.errors import StartError
from otel_usageflow.processors.usage_policy import FACTORY, UsagePolicyConfig, compile_engine

GOOD: dict[str, Any] = {
    "name": "chat",
    "endpoint": "POST /chat",
    "user": {"header": "x-account-id"},
    "customer": {"metadata_field": "account_id"},
    "event_name": "api_request",
}


def config(*policies: dict[str, Any], **more: Any) -> UsagePolicyConfig:
    return UsagePolicyConfig.model_validate({"policies": [GOOD | one for one in policies], **more})


FROM_TRACE = {"from": "trace", "attributes": ["a"]}


@pytest.mark.parametrize(
    ("changes", "place", "says"),
    [
        ({"name": "Chat"}, "name", "should match pattern"),
        ({"endpoint": []}, "endpoint", "the list is empty"),
        ({"endpoint": ["GET /a", "/b"]}, "endpoint.1", "has no method"),
        ({"user": "x-account-id"}, "user.0", "a user source is a mapping, as in {header: x-account-id}"),
        ({"user": {"hedaer": "x"}}, "user.0.hedaer", "Extra inputs"),
        ({"user": {"header": "x", "skeme": "y"}}, "user.0.skeme", "Extra inputs"),
        ({"user": {}}, "user.0", "names no source; write one of api_key, baggage, basic_auth, body"),
        ({"user": {"header": "x", "query": "y"}}, "user.0", "header and query are 2 sources"),
        ({"user": [{"header": "x"}, {"jwks_url": "y"}]}, "user.1.jwks_url", "Extra inputs"),
        ({"user": {"header": "http.request.header.x_user"}}, "user.0.header", "write only the header's name: x-user"),
        ({"user": {"header": "x user"}}, "user.0.header", "is not the name of a header"),
        ({"user": {"body": "$.items[0].id"}}, "user.0.body", "as in user.ids.0"),
        ({"user": {"api_key": {}}}, "user.0.api_key", "needs either header or query"),
        ({"user": {"api_key": {"header": "a", "query": "b"}}}, "user.0.api_key", "needs either header or query"),
        ({"user": {"api_key": {"query": "b", "scheme": "bearer"}}}, "user.0.api_key", "scheme belongs to a header"),
        (
            {"user": {"api_key": {"header": "a", "hash": "hmac-sha256"}}},
            "user.0.api_key.secret",
            "is required by hash",
        ),
        ({"user": {"api_key": {"header": "a", "secret": "s"}}}, "user.0.api_key", "by hash: hmac-sha256 only"),
        ({"user": {"metadata": "a", "scope": "trace"}}, "user.0.scope", "'span' or 'resource'"),
        ({"customer": {}}, "customer", "write either metadata_field: NAME, or id: true"),
        ({"customer": {"metadata_field": "a", "id": True}}, "customer", "write either metadata_field: NAME"),
        (
            {"match": {"condition": "attribute.a == 1"}},
            "match.condition",
            "line 1, column 10: attribute is not known",
        ),
        ({"match": {"host": "https://x/y"}}, "match.host.0", "write only the name"),
        ({"match": {"attributes": {"a": [{}]}}}, "match.attributes.a.0", "must be text, a number, true or false"),
        ({"status": "2x"}, "status.0", "is no status rule; write 2xx"),
        ({"status": 600}, "status.0", "is no status rule"),
        ({"status": True}, "status.0", "is no status rule"),
        ({"event_name": "x" * 101}, "event_name", "at most 100 characters"),
        ({"trace_wait": "5s"}, "trace_wait", "changes nothing without quantity: {from: trace"),
        ({"trace_wait": "2h", "quantity": FROM_TRACE}, "trace_wait", "must be from 0s to 1h"),
        ({"trace_wait": 5, "quantity": FROM_TRACE}, "trace_wait", "write it with units"),
        ({"quantity": {"from": "trace"}}, "quantity", "from: trace needs attributes"),
        ({"quantity": {"from": "span", "attributes": ["a"]}}, "quantity.from", "there is `from: trace`"),
        ({"quantity": {"from": "trace", "expression": "1"}}, "quantity", "and an expression sees one"),
        ({"quantity": {"attribute": "a", "scope": "b"}}, "quantity", "write match: {scope: NAME}"),
        ({"quantity": {"attributes": ["a", "b", "a"]}}, "quantity", "a is listed twice"),
        (
            {"quantity": {"attributes": ["gen_ai.usage.input_tokens", "llm.token_count.prompt"]}},
            "quantity",
            "llm.token_count.prompt and gen_ai.usage.input_tokens are two spellings of one thing",
        ),
        (
            {"quantity": {"attributes": ["gen_ai.usage.input_tokens", "llm.usage.total_tokens"]}},
            "quantity",
            "llm.usage.total_tokens has the tokens of gen_ai.usage.input_tokens in it, which would be counted twice",
        ),
        (
            {"quantity": {"attributes": ["gen_ai.usage.total_tokens", "gen_ai.usage.output_tokens"]}},
            "quantity",
            "write the total alone, or input and output",
        ),
        (
            {"quantity": {"attributes": ["usageflow.uncached_input_tokens", "llm.token_count.prompt"]}},
            "quantity",
            "write llm.token_count.prompt alone",
        ),
        (
            {"quantity": {"attributes": ["gen_ai.usage.total_tokens", "usageflow.uncached_input_tokens"]}},
            "quantity",
            "which would be counted twice",
        ),
        (
            {"quantity": {"attributes": ["gen_ai.usage.input_tokens", "gen_ai.usage.cache_read_input_tokens"]}},
            "quantity",
            "which would be counted twice",
        ),
        (
            {"quantity": {"attribute": "gen_ai.usage.output_tokens", "input_excludes_cache": ["anthropic"]}},
            "quantity",
            "input_excludes_cache changes nothing here",
        ),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], place: str, says: str) -> None:
    """Each mistake is reported at its path, with what to write instead."""
    with pytest.raises(ValidationError) as caught:
        policy(**changes)
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == place
    assert says in error["msg"]


def test_one_or_many() -> None:
    """Where a list may stand, a single value may stand too."""
    single = policy(match={"service": "a", "attributes": {"k": 1}}, status="any", endpoint="GET /a")
    listed = policy(
        match={"service": ["a"], "attributes": {"k": ["1"]}}, status=["any"], endpoint=["GET /a"], user=[GOOD["user"]]
    )
    assert single == listed


def problems(loaded: UsagePolicyConfig) -> list[str]:
    return [str(problem) for problem in FACTORY.check(loaded)]


def remarks(loaded: UsagePolicyConfig) -> list[str]:
    return [str(problem) for problem in FACTORY.warn(loaded)]


def test_names_are_unique() -> None:
    """Two policies of one name are an error at the second."""
    assert problems(config({}, {"event_name": "b"})) == [
        "policies::1::name: chat is the name of policies::0 already; choose another"
    ]


def test_a_path_parameter_has_to_be_in_an_endpoint() -> None:
    """`user: {path: id}` without `:id` in any endpoint is an error, in only some of them a remark."""
    (problem,) = problems(config({"user": {"path": "id"}}))
    assert problem == (
        "policies::0::user::path: no endpoint of chat has a parameter id; write it as in `POST /accounts/:id`"
    )
    some = config({"user": [{"header": "x"}, {"path": "id"}], "endpoint": ["GET /a/:id", "GET /a"]})
    assert problems(some) == []
    (remark,) = remarks(some)
    assert remark == "policies::0::user::1::path: GET /a has no parameter id, so it finds no user there"


def test_a_key_file_is_read_at_start(tmp_path: Path) -> None:
    """A key that cannot be used is an error of the configuration, and stops the service."""
    path = str(tmp_path / "absent.pem")
    loaded = config({"user": {"jwt": {"claim": "sub", "verify": {"public_key_file": path}}}})
    (problem,) = problems(loaded)
    assert problem.startswith("policies::0::user::jwt::verify: ")
    assert "cannot be read" in problem
    with pytest.raises(StartError, match="cannot be read"):
        compile_engine(loaded)


@pytest.mark.parametrize(
    ("first", "second", "never"),
    [
        ({"endpoint": "* /**"}, {}, True),
        ({}, {}, True),
        ({"endpoint": "POST /*"}, {}, True),
        ({"endpoint": "GET|POST /chat"}, {}, True),
        ({"endpoint": "GET /chat"}, {}, False),
        ({"endpoint": "POST /chat"}, {"endpoint": "* /chat"}, False),
        ({"endpoint": "POST /users/:id"}, {"endpoint": "POST /users/**"}, False),
        ({"endpoint": "POST /users/**"}, {"endpoint": ["POST /users", "POST /users/*/x"]}, True),
        ({}, {"event_name": "other"}, False),
        ({"match": {"service": "a"}}, {}, False),
        ({"match": {"service": ["a", "b"]}}, {"match": {"service": "a"}}, True),
        ({"match": {"attributes": {"k": 1}}}, {"match": {"attributes": {"k": [1, 2]}}}, False),
        ({"status": "5xx"}, {}, True),
    ],
)
def test_a_policy_that_another_shadows_is_a_remark(first: Any, second: Any, never: bool) -> None:
    """A policy all of whose requests an earlier one of its event name takes never bills: said at start."""
    found = remarks(config({"name": "first"} | first, {"name": "second"} | second))
    assert len(found) == (1 if never else 0)
    if never:
        assert "the policy second never bills: first stands before it" in found[0]


def test_policies_that_can_never_match_are_remarks() -> None:
    """An excluded scope, an RPC attribute, two different services: no request can have them."""
    for match in (
        {"scope": "fastapi"},
        {"attributes": {"rpc.system": "grpc"}},
        {"service": "a", "attributes": {"service.name": "b"}},
    ):
        (remark,) = remarks(config({"match": match}, exclude_scopes=["fastapi"]))
        assert "the policy chat never matches" in remark


def test_doubtful_credentials_are_remarks() -> None:
    """A digest that includes a scheme, and a secret that is shorter than the algorithm's own size."""
    (scheme,) = remarks(config({"user": {"api_key": {"header": "Authorization"}}}))
    assert "write scheme: bearer" in scheme
    (short,) = remarks(config({"user": {"jwt": {"claim": "sub", "verify": {"secret": "short"}}}}))
    assert "shorter than 32 bytes" in short
    assert "short'" not in short


def test_a_processor_needs_policies() -> None:
    """Without a policy nothing would ever be billed."""
    with pytest.raises(ValidationError, match="at least 1 item"):
        config()
