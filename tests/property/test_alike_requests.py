"""What is remembered of requests decides as if nothing was remembered, whatever came before."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from reader_twins import plainly
from span_builder import NOW, engine, payload, policy, span

from otel_usageflow.policy import alike
from otel_usageflow.policy.alike import Budget, Scenes

BY_TOKENS = {"attribute": "app.tokens"}
POLICIES = (
    policy(),
    policy(
        name="own", match={"service": "shop"}, endpoint="* /chat", event_name="own", user={"metadata": "enduser.id"}
    ),
    policy(name="paths", endpoint="GET /users/:id", event_name="paths", user={"path": "id"}, status="any"),
    policy(name="green", match={"attributes": {"app.color": "green"}}, endpoint="* /**", event_name="green"),
    policy(
        name="heavy", match={"condition": 'int(attributes["app.tokens"]) > 10'}, endpoint="* /**", event_name="heavy"
    ),
    policy(name="tokens", endpoint="POST /chat", event_name="tokens", quantity=BY_TOKENS),
    policy(name="told", endpoint="POST /chat", event_name="told", payload={"color": {"attribute": "app.color"}}),
    policy(name="host", match={"host": "api.example.com"}, endpoint="POST /chat", event_name="host"),
    policy(name="calls", endpoint="grpc shop.Orders/*", event_name="calls", user={"metadata": "enduser.id"}),
    policy(name="same", endpoint="POST /chat", event_name="same", request_id={"header": "x-request-id"}),
)
VALUES: dict[str, tuple[Any, ...]] = {
    "http.request.method": ("POST", "GET", "_OTHER"),
    "url.path": ("/chat", "/users/ann", "/users/bob", "/else"),
    "http.response.status_code": (200, 404, "200"),
    "http.request.header.x-account-id": (["ann"], ["bob"], ["ann", "bob"], "****"),
    "enduser.id": ("ann", "bob", ""),
    "app.color": ("green", "red", ["green"]),
    "app.tokens": (5, 50, -1, "7"),
    "server.address": ("api.example.com", "other"),
    "http.request.header.x-request-id": (["one"], ["two"]),
    "rpc.system": ("grpc",),
    "rpc.service": ("shop.Orders",),
    "rpc.method": ("List",),
    "app.note": ("x", "y"),
}
PAIRS = {key: st.tuples(st.just(key), st.sampled_from(values)) for key, values in VALUES.items()}
OF_HTTP = [key for key in VALUES if not key.startswith("rpc.")]
# Mostly the same keys in the same order, so that layouts are known; now and then a few keys, some of them twice.
USUAL = st.tuples(*(PAIRS[key] for key in OF_HTTP)).map(list)
UNUSUAL = st.lists(st.one_of(*PAIRS.values()), max_size=8)
SPANS = st.lists(st.one_of(USUAL, USUAL, USUAL, UNUSUAL), min_size=1, max_size=6)
CALLS = st.lists(
    st.tuples(SPANS, st.sampled_from(["shop", "else"]), st.sampled_from(["a", "b"]), st.sampled_from(["ann", "bob"])),
    min_size=1,
    max_size=6,
)


@given(
    plain=st.booleans(),
    calls=CALLS,
    chosen=st.sets(st.sampled_from(range(len(POLICIES))), min_size=1),
    limit=st.sampled_from([0, 3_000, 10**9]),
)
@settings(max_examples=150, deadline=None)
def test_memory_changes_no_decision(plain: bool, calls: list[Any], chosen: set[int], limit: int) -> None:
    """An engine that has seen other requests decides about the next one as one that has seen none, by each reader."""
    policies = [POLICIES[index] for index in sorted(chosen)]
    kept = plainly(engine(*policies)) if plain else engine(*policies)
    kept._scenes = Scenes(kept.policies, Budget(limit))
    for spans, service, scope, resource_user in calls:
        request = payload(
            *(span(pairs) for pairs in spans), service=service, scope=scope, resource={"enduser.id": resource_user}
        )
        assert kept.evaluate(request, NOW) == engine(*policies).evaluate(request, NOW)


def test_what_is_remembered_is_bounded() -> None:
    """Paths and users that never come again are forgotten where the memory for them is spent."""
    kept = engine(policy(endpoint="POST /**"))
    kept._scenes = Scenes(kept.policies, Budget(100_000))
    most = 0
    for number in range(1_000):
        path, account = f"/chat/{number}", [f"user-{number}"]
        attributes = {
            "http.request.method": "POST",
            "url.path": path,
            "http.response.status_code": 200,
            "http.request.header.x-account-id": account,
        }
        (record,) = kept.evaluate(payload(span(attributes), span(attributes)), NOW).records[:1]
        assert record.user == account[0]
        scenes = kept._scenes._scenes.values()
        most = max(most, sum(len(scene.decisions) + sum(map(len, scene.users.values())) for scene in scenes))
    assert 20 < most < 100_000 / alike._ENTRY


def test_a_copy_for_an_account_remembers_its_own() -> None:
    """What the policies of one account decided is not asked about another's."""
    own = engine(policy(account="acct_1"), policy(name="all", event_name="all"))
    request = payload(span({"http.request.method": "POST", "url.path": "/chat", "http.response.status_code": 200}))
    told = [own.evaluate(request, NOW), own.of_account("acct_2").evaluate(request, NOW), own.evaluate(request, NOW)]
    again = [own.evaluate(request, NOW), own.of_account("acct_2").evaluate(request, NOW), own.evaluate(request, NOW)]
    assert told == again
    assert [len(batch.records) for batch in told] == [2, 1, 2]
