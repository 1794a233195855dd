"""What the policies hand on of a trace whose numbers are summed: the spans that matter, and no others."""

from datetime import timedelta

import pytest
from span_builder import LOCAL, NOW, REMOTE, engine, policy, span
from trace_builder import CLIENT, CONSUMER, INTERNAL, SERVER, Placed, below, exported, request, summing

from otel_usageflow.model.usage import Reason, UsageBatch
from otel_usageflow.policy.config import PolicyConfig
from otel_usageflow.policy.policy import compile_policy


def read(spans: list[Placed], *policies: PolicyConfig, exclude_scopes: tuple[str, ...] = ()) -> UsageBatch:
    """What the policies make of these spans."""
    return engine(*policies, exclude_scopes=exclude_scopes).evaluate(exported(spans), NOW)


def test_a_request_waits_for_its_trace() -> None:
    """It becomes no record yet, but what it is, what is summed for it, and how long to wait."""
    batch = read([request(1), below(1, 2, {"tokens": 5})], summing("tokens", changes={"trace_wait": "90s"}))
    assert batch.records == []
    (waiting,) = batch.trace_requests
    assert (waiting.record.user, waiting.record.quantity, waiting.record.reason) == ("acme", None, None)
    assert (waiting.keys, waiting.wait_ns) == (("tokens",), 90_000_000_000)
    assert waiting.record.terms.quantity is None
    root, child = sorted(batch.trace_spans, key=lambda one: one.span_id)
    assert (root.entry, root.parent_span_id, root.amounts) == (True, b"", ())
    assert (child.entry, child.parent_span_id, child.amounts) == (False, root.span_id, (("tokens", 5),))
    assert (child.service, child.ended_ns) == ("shop", root.ended_ns)


def test_a_request_without_a_user_says_so_at_once() -> None:
    """No user comes before whatever its trace holds; the wait is the processor's where the policy has none."""
    batch = read([request(1, user=None)], summing("tokens"))
    (waiting,) = batch.trace_requests
    assert waiting.record.reason is Reason.NO_USER
    assert waiting.wait_ns == 5_000_000_000
    compiled = compile_policy(summing("tokens"), frozenset(), trace_wait=timedelta(milliseconds=1.5))
    assert compiled.summed is not None
    assert compiled.summed.wait_ns == 1_500_000


def test_other_policies_cost_nothing_and_change_nothing() -> None:
    """Without a policy that sums traces no span is handed on; beside one, others bill as they always do."""
    spans = [request(1), below(1, 2, {"tokens": 5})]
    alone = read(spans, policy())
    assert (alone.trace_spans, alone.trace_requests, len(alone.records)) == ([], [], 1)
    both = read(spans, policy(), summing("tokens", changes={"name": "tokens", "event_name": "tokens"}))
    assert both.records == alone.records
    assert len(both.trace_requests) == 1


def test_only_spans_of_services_that_are_named_are_handed_on() -> None:
    """Where all such policies name services, spans of others are left alone; one that names none wants all."""
    spans = [request(1), below(1, 2, service="other")]
    named = summing("tokens", changes={"match": {"service": ["shop", "more"]}})
    assert [one.service for one in read(spans, named).trace_spans] == ["shop"]
    unnamed = summing("tokens", changes={"name": "b", "event_name": "b"})
    assert len(read(spans, named, unnamed).trace_spans) == 2


def test_a_scope_counts_for_the_policies_that_name_it() -> None:
    """Two instrumentations that report one call are told apart by scope, for each policy."""
    spans = [request(1), below(1, 2, {"tokens": 5}, scope="sdk"), below(1, 3, {"tokens": 5}, scope="agent")]
    by_sdk = summing("tokens", scope="sdk")
    by_all = summing("tokens", changes={"name": "b", "event_name": "b"})
    batch = read(spans, by_sdk, by_all)
    narrow, wide = (waiting.keys[0] for waiting in batch.trace_requests)
    assert wide == "tokens"
    assert narrow.startswith("tokens#")
    amounts = {one.span_id[-1]: dict(one.amounts) for one in batch.trace_spans}
    assert amounts == {1: {}, 2: {"tokens": 5, narrow: 5}, 3: {"tokens": 5}}


def test_names_depend_on_rules_and_on_nothing_else() -> None:
    """They are kept with spans: order, doubles and rules that change nothing give one name, other rules another."""

    def name(**rules: object) -> str:
        summed = compile_policy(summing("gen_ai.usage.input_tokens", **rules), frozenset()).summed
        assert summed is not None
        return summed.names[0]

    assert name() == "gen_ai.usage.input_tokens"
    assert name(scope=["a", "b"]) == name(scope=["b", "a", "a"]) != name(scope=["a"])
    assert name(input_excludes_cache=["X"]) == name(input_excludes_cache="x") != name(scope="x")


def test_a_value_that_cannot_be_billed_is_handed_on_as_such() -> None:
    """It must not vanish: the request's quantity is not known with it."""
    batch = read([request(1), below(1, 2, {"tokens": "many"}), below(1, 3, {"tokens": -1})], summing("tokens"))
    assert [one.amounts for one in batch.trace_spans] == [(), (("tokens", None),), (("tokens", None),)]


@pytest.mark.parametrize(
    ("kind", "flags", "parent", "entry"),
    [
        (SERVER, LOCAL, 0, True),
        (SERVER, 0, 0, None),
        (SERVER, REMOTE, 9, True),
        (SERVER, LOCAL, 9, False),
        (SERVER, 0, 9, None),
        (INTERNAL, LOCAL, 9, False),
        (CLIENT, 0, 9, False),
        (INTERNAL, LOCAL, 0, False),
        (CONSUMER, LOCAL, 0, False),
        (CONSUMER, REMOTE, 9, True),
        (CONSUMER, LOCAL, 9, False),
        (CONSUMER, 0, 9, True),
        (INTERNAL, REMOTE, 9, True),
    ],
)
def test_which_spans_enter_their_process(kind: int, flags: int, parent: int, entry: bool | None) -> None:
    """Requests, and messages taken off a queue; a background job without a parent is nobody's request."""
    made = Placed(span(kind=kind, flags=flags, parent=parent or b""))
    (read_back,) = read([made], summing("tokens")).trace_spans
    assert read_back.entry is entry


def test_spans_without_an_identity_are_counted() -> None:
    """What has no valid id cannot be billed once, whatever its kind; each is counted once."""
    broken = [below(1, 2, {"tokens": 5}), request(3)]
    for one in broken:
        one.span.trace_id = bytes(16)
    batch = read([request(1), *broken], summing("tokens"))
    assert (batch.malformed, len(batch.trace_spans)) == (2, 1)


def test_an_excluded_scope_leads_to_the_request_beside_it() -> None:
    """Its spans are no requests; what hangs below one is its service's request's, and never a caller's."""
    spans = [
        request(1, user="caller", service="front"),
        request(2, parent=1),
        request(3, parent=1, scope="double"),
        below(3, 4, {"tokens": 5}),
    ]
    batch = read(spans, summing("tokens"), exclude_scopes=("double",))
    assert [waiting.record.span_id[-1] for waiting in batch.trace_requests] == [1, 2]
    double = next(one for one in batch.trace_spans if one.span_id[-1] == 3)
    assert (double.entry, double.parent_span_id) == (False, double.span_id)
