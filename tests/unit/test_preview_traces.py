"""What `preview` bills where a quantity is summed over the request's trace."""

from typing import Any

import pytest
from span_builder import NOW, engine
from trace_builder import Placed, below, exported, request, summing

from otel_usageflow.policy.config import PolicyConfig
from otel_usageflow.policy.preview import Preview, preview
from otel_usageflow.policy.spellings import CACHE_READ, INPUT, OUTPUT, TOTAL


def bill(spans: list[Placed], *policies: PolicyConfig, exclude_scopes: tuple[str, ...] = ()) -> Preview:
    """What these spans would cost."""
    return preview(engine(*policies, exclude_scopes=exclude_scopes), exported(spans), NOW)


def quantities(result: Preview) -> dict[str, Any]:
    """User -> quantity."""
    return {line.user: line.quantity for line in result.usage}


def reasons(result: Preview) -> dict[str, int]:
    """Reason -> records in quarantine."""
    return {line.reason: line.requests for line in result.quarantined}


def test_calls_below_a_request_add_up() -> None:
    """A request costs what its calls cost, at whatever depth; it is one request."""
    result = bill([request(1), below(1, 2), below(2, 3, {"t": 5}), below(1, 4, {"t": 7})], summing("t"))
    assert quantities(result) == {"acme": 12}
    assert result.usage[0].requests == 1


def test_an_agent_that_repeats_its_children_counts_once() -> None:
    """Only what has nothing below it that says more exactly counts: neither the agent's total nor the request's."""
    spans = [request(1), below(1, 2, {"t": 12}), below(2, 3, {"t": 5}), below(2, 4, {"t": 7})]
    spans[0].span.attributes.add(key="t").value.int_value = 12
    assert quantities(bill(spans, summing("t"))) == {"acme": 12}


def test_vendors_can_be_mixed_in_one_trace() -> None:
    """Every span is read in its own spelling, and a total is worked out where it is not stated."""
    spans = [
        request(1),
        below(1, 2, {INPUT: 100, OUTPUT: 10}),
        below(1, 3, {"gen_ai.usage.prompt_tokens": 200, "gen_ai.usage.completion_tokens": 20}),
        below(1, 4, {"llm.token_count.prompt": 400, "llm.token_count.completion": 40, "llm.token_count.total": 440}),
        below(1, 5, {INPUT: 8, "gen_ai.operation.name": "embeddings"}),
    ]
    assert quantities(bill(spans, summing(TOTAL))) == {"acme": 778}
    assert quantities(bill(spans, summing(INPUT, OUTPUT))) == {"acme": 778}


def test_two_instrumentations_of_one_call_are_told_apart_by_scope() -> None:
    """Side by side nothing on the wire says that two spans are one call; `scope` names the one that counts."""
    spans = [request(1), below(1, 2, {"t": 5}, scope="a"), below(1, 3, {"t": 5}, scope="b")]
    assert quantities(bill(spans, summing("t"))) == {"acme": 10}
    assert quantities(bill(spans, summing("t", scope="a"))) == {"acme": 5}
    assert reasons(bill(spans, summing("t", scope="c"))) == {"bad_quantity": 1}
    inside = [request(1), below(1, 2, {"t": 5}, scope="a"), below(2, 3, {"t": 5}, scope="b")]
    assert quantities(bill(inside, summing("t"))) == {"acme": 5}


def test_cached_tokens_by_provider() -> None:
    """Each span is judged by its own provider; one that shows that what is assumed is wrong is kept."""
    inclusive = below(1, 2, {INPUT: 1000, OUTPUT: 1, CACHE_READ: 900, "gen_ai.provider.name": "openai"})
    exclusive = below(1, 3, {INPUT: 100, OUTPUT: 1, CACHE_READ: 900, "gen_ai.system": "anthropic"})
    spans = [request(1), inclusive, exclusive]
    assert quantities(bill(spans, summing(TOTAL, input_excludes_cache=["anthropic"]))) == {"acme": 2002}
    assert reasons(bill(spans, summing(TOTAL))) == {"bad_quantity": 1}


@pytest.mark.parametrize(("value", "quantity"), [(0, 0), ("0", 0), (None, None), (-1, None), ("x", None)])
def test_zero_is_zero_and_nothing_is_quarantined(value: Any, quantity: Any) -> None:
    """0 bills 0; a trace without the attribute, and one with a value that is none, are bad quantities."""
    result = bill([request(1), below(1, 2, {"t": value})], summing("t"))
    assert quantities(result) == ({} if quantity is None else {"acme": 0})
    assert reasons(result) == ({"bad_quantity": 1} if quantity is None else {})


def test_no_user_comes_before_a_bad_quantity() -> None:
    """A request with neither is quarantined as no_user, once."""
    assert reasons(bill([request(1, user=None), below(1, 2)], summing("t"))) == {"no_user": 1}


def test_what_another_service_does_is_its_own() -> None:
    """A request's local trace ends where another request begins, even of the same service."""
    spans = [
        request(1),
        below(1, 2, {"t": 5}),
        request(3, parent=2, user="inner", service="other"),
        below(3, 4, {"t": 7}, service="other"),
        request(5, parent=2, user="again"),
        below(5, 6, {"t": 9}),
    ]
    assert quantities(bill(spans, summing("t"))) == {"acme": 5, "inner": 7, "again": 9}


def test_nested_server_spans_are_one_request_with_one_trace() -> None:
    """Old SDKs, which do not say what is local: the inner SERVER span leads to the outer one, which is billed."""
    spans = [request(1, flags=0), request(2, parent=1, flags=0), below(2, 3, {"t": 5}, flags=0)]
    result = bill(spans, summing("t"))
    assert quantities(result) == {"acme": 5}
    assert result.requests == 1


def test_work_in_the_background_is_nobodys() -> None:
    """A job that is no request is not billed to one that happens to be there."""
    job = [below(9, 8, {"t": 100}), below(0, 9)]
    job[1].span.parent_span_id = b""
    for one in job:
        one.span.trace_id = bytes(15) + b"\x02"
    assert quantities(bill([request(1), below(1, 2, {"t": 5}), *job], summing("t"))) == {"acme": 5}


def test_an_excluded_scope_still_leads_to_the_request() -> None:
    """With two instrumentations of one request, the calls below the excluded one are the other one's."""
    spans = [request(2, parent=1), request(3, parent=1, user=None, scope="double"), below(3, 4, {"t": 5})]
    assert quantities(bill(spans, summing("t"), exclude_scopes=("double",))) == {"acme": 5}


def test_what_cannot_be_told_whose_it_is_is_kept_under_its_own_name() -> None:
    """A span without its parent, in a trace with two requests of its service: no_user, with the attribute's name."""
    spans = [request(2, parent=1), request(3, parent=1), below(99, 4, {"t": 5}), below(2, 5, {"t": 1})]
    result = bill([*spans, below(3, 6, {"t": 2})], summing("t", scope="tests"))
    assert quantities(result) == {"acme": 3}
    assert reasons(result) == {"no_user": 1}
    assert result.seen == {"chat": {"t": 1}}


def test_a_policy_of_another_kind_bills_the_same_request_beside_it() -> None:
    """Calls and their tokens are two meters."""
    calls = summing("t", changes={"name": "calls", "event_name": "calls", "quantity": 1})
    result = bill([request(1), below(1, 2, {"t": 5})], calls, summing("t"))
    assert [(line.policy, line.quantity) for line in result.usage] == [("calls", 1), ("chat", 5)]


def test_what_is_nobodys_has_no_request_id() -> None:
    """It is kept even where each request that it may be of carries an id: it is none of the spans of that request."""
    spans = [request(2, parent=1), request(3, parent=1), below(99, 4, {"t": 5}), below(2, 5, {"t": 1})]
    for one, request_id in zip(spans, ("r2", "r3"), strict=False):
        one.span.attributes.add(key="id").value.string_value = request_id
    rule = summing("t", changes={"request_id": {"attribute": "id"}})
    assert reasons(bill([*spans, below(3, 6, {"t": 2})], rule)) == {"no_user": 1}


def test_what_is_nobodys_is_kept_where_requests_sum_different_things() -> None:
    """Whatever the policies are called: what one of them sums is not lost, nor is it guessed how much it would be."""
    spans = [request(2, parent=1), request(3, parent=1), below(99, 4, {"b": 5}), below(98, 5, {"a": 7})]
    spans[1].span.attributes.add(key="x").value.string_value = "y"
    spans += [below(2, 6, {"a": 1}), below(3, 7, {"a": 2})]
    for first, second in (("p", "q"), ("q", "p")):
        both = summing("a", "b", changes={"name": first, "match": {"attributes": {"x": "y"}}})
        result = bill(spans, both, summing("a", changes={"name": second}))
        assert sum(line.quantity for line in result.usage) == 3
        assert reasons(result) == {"no_user": 2}
        assert result.seen == {"p": {"a": 1, "b": 1}}
