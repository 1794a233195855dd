"""A header or attribute as the request's identity: what is read of it, and what `preview` makes of it."""

from typing import Any

import pytest
from pydantic import ValidationError
from span_builder import NOW, engine, http, judge, only, payload, policy, span

from otel_usageflow.policy.preview import Preview, preview
from otel_usageflow.processors.usage_policy import UsagePolicyConfig, compile_engine

ACME = {"http.request.header.x-account-id": "acme"}
HEADER = {"header": "x-request-id"}
EITHER = [HEADER, {"attribute": "guid:x-request-id"}]


def digest(attributes: dict[str, Any], rule: Any = HEADER, **changes: Any) -> bytes:
    return only(judge(http() | ACME | attributes, policy(request_id=rule, **changes))).request_id


def test_one_id_has_one_digest() -> None:
    """In either spelling, as text or a list of one, from a header or an attribute: 16 bytes, always the same."""
    spellings = [
        {"http.request.header.x-request-id": "r1"},
        {"http.request.header.x_request_id": ["r1"]},
        {"http.request.header.x-request-id": [" r1 "], "http.request.header.x_request_id": ["r1"]},
        {"guid:x-request-id": "r1"},
    ]
    digests = {digest(one, EITHER) for one in spellings}
    assert len(digests) == 1
    assert len(digests.pop()) == 16
    assert digest({"http.request.header.x-request-id": "r2"}) != digest(spellings[0])


def test_metadata_of_a_call_is_a_header() -> None:
    """A gRPC call's id stands in its metadata."""
    call = {"rpc.system": "grpc", "rpc.method": "a.B/C", "rpc.response.status_code": "OK"}
    attributes = call | {"rpc.request.metadata.x-account-id": "acme", "rpc.request.metadata.x-request-id": ["r1"]}
    record = only(judge(attributes, policy(endpoint="grpc *", request_id=HEADER)))
    assert record.request_id == digest({"http.request.header.x-request-id": "r1"})


@pytest.mark.parametrize("value", [None, "", "  ", "-", "REDACTED", ["a", "b"], "x" * 501, 1.5, {"a": 1}])
def test_what_is_no_id(value: Any) -> None:
    """None, a placeholder, several distinct values, too long, no text: the span is a request of its own."""
    assert digest({"http.request.header.x-request-id": value}) == b""


def test_places_are_tried_in_order() -> None:
    """The first that has an id is taken."""
    both = {"http.request.header.x-request-id": "r1", "guid:x-request-id": "r2"}
    assert digest(both, EITHER) == digest({"http.request.header.x-request-id": "r1"})
    assert digest(both | {"http.request.header.x-request-id": ["a", "b"]}, EITHER) == digest(
        {"guid:x-request-id": "r2"}, EITHER
    )


def test_the_processor_says_for_all() -> None:
    """A policy takes over what the processor says, or says otherwise, or none."""
    written = policy().model_dump(mode="json", exclude_unset=True)
    policies = [
        written | {"name": "a", "event_name": "a"},
        written | {"name": "b", "event_name": "b", "request_id": {"header": "idempotency-key"}},
        written | {"name": "c", "event_name": "c", "request_id": "none"},
    ]
    judged = compile_engine(UsagePolicyConfig.model_validate({"policies": policies, "request_id": HEADER}))

    def identified(header: str) -> list[bool]:
        batch = judged.evaluate(payload(span(http() | ACME | {f"http.request.header.{header}": "r1"})), NOW)
        return [bool(record.request_id) for record in batch.records]

    assert identified("x-request-id") == [True, False, False]
    assert identified("idempotency-key") == [False, True, False]


@pytest.mark.parametrize("rule", [{}, {"header": "x", "attribute": "y"}, [], "off", {"header": "x y"}])
def test_what_is_no_rule(rule: Any) -> None:
    """It has to say one place, or several in a list."""
    with pytest.raises(ValidationError):
        policy(request_id=rule)


def previewed(*spans: Any, **changes: Any) -> Preview:
    return preview(engine(policy(request_id=HEADER, **changes)), payload(*spans), NOW)


def request(request_id: str | None, user: str | None = "acme", *, end: int = 1, **more: Any) -> Any:
    headers = {"x-request-id": request_id, "x-account-id": user}
    found = {f"http.request.header.{name}": value for name, value in headers.items() if value}
    return span(http(**more) | found, end=NOW - 10**10 + end)


def test_preview_counts_a_request_once() -> None:
    """The first to end counts, in any order; the others are told as not billed; without an id each is a request."""
    spans = [request("r1", end=2), request("r1", end=1), request("r2"), request(None), request(None)]
    for order in (spans, spans[::-1]):
        found = previewed(*order)
        (line,) = found.usage
        assert (found.requests, line.requests) == (5, 4)
        assert found.unbilled == [("chat", "request_id", 1)]


def test_preview_keeps_users_apart() -> None:
    """Two users of one id are two; a span without a user is one with any of them."""
    found = previewed(request("r1"), request("r1", "beta"), request("r1", None))
    assert [(line.user, line.requests) for line in found.usage] == [("acme", 1), ("beta", 1)]
    assert (found.quarantined, found.unbilled) == ([], [("chat", "request_id", 1)])
    alone = previewed(request("r1", None), request("r1", None))
    assert (alone.quarantined, alone.unbilled) == ([("chat", "no_user", 1)], [("chat", "request_id", 1)])


def test_a_retry_after_a_refusal_is_billed() -> None:
    """Of the requests of one key the one that succeeded is billed; what the status rule refuses does not count."""
    found = previewed(request("r1", status=503), request("r1", status=200, end=5))
    assert [line.requests for line in found.usage] == [1]
    assert found.unbilled == [("chat", "status", 1)]
