"""gRPC and GraphQL endpoints whatever a span carries: nothing escapes, and the tables say what a slow look says."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from span_builder import NOW, engine, http, payload, policy, span

from otel_usageflow.policy.graphql import TYPES
from otel_usageflow.policy.grpc import CODES

TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from(["grpc", "OK", "NotFound", "0", "5", "a.B/C", "/a.B/C", "_OTHER"])
)
SCALARS = st.one_of(
    TEXTS, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(), st.binary(max_size=6), st.none()
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(max_size=3), SCALARS, max_size=2))
KEYS = st.sampled_from(
    [
        "rpc.system",
        "rpc.system.name",
        "rpc.service",
        "rpc.method",
        "rpc.method_original",
        "rpc.grpc.status_code",
        "rpc.response.status_code",
        "rpc.status_code",
        "rpc.request.metadata.x-account-id",
        "rpc.request.metadata.x-request-id",
        "http.request.header.x-request-id",
        "graphql.operation.type",
        "graphql.operation.name",
        "http.request.method",
        "url.path",
    ]
)
CONDITION = "has(span.rpc_method) || has(span.rpc_status) || has(span.method) || span.service == 'shop'"


@settings(max_examples=300)
@given(spans=st.lists(st.lists(st.tuples(KEYS, VALUES), max_size=8), max_size=4))
def test_nothing_escapes(spans: list[list[tuple[str, Any]]]) -> None:
    """Any attributes, of any type, also several times: every span is a request that is told, or none, each time."""
    rules = {"request_id": {"header": "x-request-id"}, "status": "any", "match": {"condition": CONDITION}}
    judged = engine(
        policy(name="calls", endpoint=["grpc *", "grpc a.B/C"], event_name="calls", **rules),
        policy(name="operations", endpoint=["graphql *", "graphql query A"], event_name="operations", **rules),
        policy(name="paths", endpoint="* /**", event_name="paths", **rules),
    )
    sent = payload(*(span(one, number=number) for number, one in enumerate(spans, 1)))
    batch = judged.evaluate(sent, NOW)
    assert batch == judged.evaluate(sent, NOW)
    assert batch.requests <= len(spans)
    told = {(record.trace_id, record.span_id) for record in batch.records}
    assert batch.unmatched + len(told) == batch.requests
    for record in batch.records:
        assert len(record.request_id) in (0, 16)


NAMES = st.sampled_from(["A", "B", "C", None])
GROUPS = st.sampled_from(["s.A", "s.B", None])
ENDPOINTS = st.lists(st.tuples(GROUPS, NAMES).filter(lambda one: one[0] is not None or one[1] is None), max_size=6)


def fits(endpoint: tuple[str | None, str | None], group: str | None, name: str | None) -> bool:
    """What an endpoint takes, told slowly: what it names must be there, and be that."""
    return all(wanted is None or wanted == there for wanted, there in zip(endpoint, (group, name), strict=True))


@settings(max_examples=300)
@given(endpoints=ENDPOINTS, group=GROUPS, name=NAMES, code=st.sampled_from(CODES), new=st.booleans())
def test_methods_agree_with_a_slow_look(
    endpoints: list[tuple[str, str | None]], group: str | None, name: str | None, code: str, new: bool
) -> None:
    """Of any set of gRPC endpoints a call is billed by just those that fit, in order, in either convention."""
    rules = [
        policy(
            name=f"p{number}",
            event_name=f"e{number}",
            endpoint=f"grpc {one[0]}/{one[1] or '*'}" if one[0] else "grpc *",
        )
        for number, one in enumerate(endpoints)
    ]
    attributes: dict[str, Any] = {"rpc.system": "grpc", "rpc.grpc.status_code": CODES.index(code)}
    if new and group and name:
        attributes = {"rpc.system.name": "grpc", "rpc.method": f"{group}/{name}", "rpc.response.status_code": code}
    else:
        attributes |= {key: value for key, value in (("rpc.service", group), ("rpc.method", name)) if value}
    batch = engine(policy(name="path", endpoint="* /**"), *rules).evaluate(payload(span(attributes)), NOW)
    taken = [number for number, one in enumerate(endpoints) if fits(one, group, name)]
    assert batch.requests == bool(endpoints)
    if code == "OK":
        assert [record.terms.policy for record in batch.records] == [f"p{number}" for number in taken]
    else:
        assert sorted(batch.unbilled) == sorted((f"p{number}", "status") for number in taken)


KINDS = st.sampled_from([*TYPES, None])
OPERATIONS = st.lists(st.tuples(KINDS, NAMES), min_size=1, max_size=6)


@settings(max_examples=300)
@given(endpoints=OPERATIONS, kind=KINDS, name=NAMES)
def test_operations_agree_with_a_slow_look(
    endpoints: list[tuple[str | None, str | None]], kind: str | None, name: str | None
) -> None:
    """The same of GraphQL: each of the operations that fit bills, whatever else there is."""
    rules = [
        policy(name=f"p{number}", event_name=f"e{number}", endpoint=f"graphql {one[0] or '*'} {one[1] or '*'}")
        for number, one in enumerate(endpoints)
    ]
    told = {"graphql.operation.type": kind, "graphql.operation.name": name}
    attributes = http() | {key: value for key, value in told.items() if value}
    batch = engine(*rules).evaluate(payload(span(attributes)), NOW)
    taken = [number for number, one in enumerate(endpoints) if (kind or name) and fits(one, kind, name)]
    assert [record.terms.policy for record in batch.records] == [f"p{number}" for number in taken]
