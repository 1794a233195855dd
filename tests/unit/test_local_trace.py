"""Which request a span belongs to, and which of a trace's numbers count."""

import pytest
from traces import NOW, SECOND, TERMS, TOKENS, request, span, span_id

from otel_usageflow.model.usage import Quantity, Reason, Terms, TraceSpan
from otel_usageflow.policy.local_trace import LocalTrace, complete, settled

ENTRY = span(1, 90, entry=True)


def quantity(*spans: TraceSpan, keys: tuple[str, ...] = (TOKENS,), of: int = 1) -> Quantity | None:
    """What a request is billed for."""
    return LocalTrace(spans).share(span_id(of), keys).quantity


def test_siblings_add_up() -> None:
    """Every model call below a request counts."""
    assert quantity(ENTRY, span(2, 1, tokens=10), span(3, 1, tokens=5)) == 15


def test_a_total_that_is_repeated_up_the_tree_counts_once() -> None:
    """An agent, a chain and the request itself repeat what their children used."""
    top = span(1, 90, entry=True, tokens=15)
    agent = span(2, 1, tokens=15)
    assert quantity(top, agent, span(3, 2), span(4, 3, tokens=10), span(5, 2, tokens=5)) == 15


def test_the_request_itself_may_hold_the_number() -> None:
    """Nothing below it does."""
    assert quantity(span(1, 90, entry=True, tokens=7), span(2, 1)) == 7


def test_each_attribute_has_leaves_of_its_own() -> None:
    """An agent's total of one attribute counts where its children have only the other."""
    agent = span(2, 1, amounts={"in": 4, "out": 9})
    call = span(3, 2, amounts={"in": 4})
    assert quantity(ENTRY, agent, call, keys=("in", "out")) == 13


def test_an_attribute_that_no_span_has_adds_nothing_where_another_is_found() -> None:
    """An embedding has no output tokens."""
    assert quantity(ENTRY, span(2, 1, amounts={"in": 4}), keys=("in", "out")) == 4


def test_a_trace_without_the_attribute_has_no_quantity() -> None:
    """0 would be a guess."""
    assert quantity(ENTRY, span(2, 1)) is None


def test_a_zero_is_zero() -> None:
    """What was measured as nothing is billed as nothing."""
    assert quantity(ENTRY, span(2, 1, tokens=0)) == 0


def test_a_number_that_cannot_be_billed_makes_the_whole_unknown() -> None:
    """The rest alone would be too little."""
    assert quantity(ENTRY, span(2, 1, tokens=5), span(3, 1, amounts={TOKENS: None})) is None


def test_a_bad_total_above_good_numbers_does_not_matter() -> None:
    """Only what counts is looked at."""
    assert quantity(ENTRY, span(2, 1, amounts={TOKENS: None}), span(3, 2, tokens=5)) == 5


def test_a_sum_that_is_too_large_is_unknown() -> None:
    """Quantities stay below 10^18."""
    most = 10**18 - 1
    assert quantity(ENTRY, span(2, 1, tokens=most)) == most
    assert quantity(ENTRY, span(2, 1, tokens=most), span(3, 1, tokens=1)) is None


def test_what_another_service_does_is_not_the_callers() -> None:
    """Its entry span ends the chain, so each request has what its own process used."""
    spans = [
        ENTRY,
        span(2, 1, tokens=1),
        span(3, 2, entry=True, service="billing"),
        span(4, 3, service="billing", tokens=10),
        span(5, 4, entry=True),
        span(6, 5, tokens=100),
    ]
    assert [quantity(*spans, of=number) for number in (1, 3, 5)] == [1, 10, 100]


def test_work_in_the_background_is_nobodys() -> None:
    """Its chain ends at a span that nobody called."""
    trace = LocalTrace([ENTRY, span(2), span(3, 2, tokens=5)])
    assert [one.span_id for one in trace.background] == [span_id(3)]
    assert trace.request_of(span_id(3)) is None
    assert not trace.undecided


def test_a_broken_chain_leads_to_the_only_request_of_its_service() -> None:
    """Another service's request is no candidate."""
    spans = [ENTRY, span(2, 1, entry=True, service="billing"), span(3, 77, tokens=5), span(4, 3, tokens=5)]
    assert quantity(*spans) == 5
    assert quantity(*spans, of=2) is None


def test_a_broken_chain_with_two_requests_is_never_guessed() -> None:
    """What nobody can tell is a record without a user, once for each event name."""
    other = Terms("other", "other_tokens", "account_id", quantity=None)
    spans = [ENTRY, span(2, 91, entry=True), span(3, 77, tokens=5), span(4, 3, tokens=4), span(5, 1, tokens=1)]
    asked = [request(1), request(2), request(1, terms=other)]
    records = complete(spans, asked)
    strays = [one for one in records if one.span_id == span_id(4)]
    assert [one.span_id for one in LocalTrace(spans).undecided] == [span_id(3), span_id(4)]
    assert len(records) == len(asked) + len(strays)
    assert {(one.terms.event_name, one.user, one.quantity, one.reason) for one in strays} == {
        ("tokens_used", None, 4, Reason.NO_USER),
        ("other_tokens", None, 4, Reason.NO_USER),
    }
    assert [one.quantity for one in records[:3]] == [1, None, 1]


def test_a_stray_of_another_service_is_under_nobodys_terms() -> None:
    """There is no policy of which it could be usage."""
    spans = [ENTRY, span(3, 77, service="worker", tokens=5)]
    assert [one.span_id for one in complete(spans, [request(1)])] == [span_id(1)]


def test_an_inner_server_span_is_no_request_where_the_sdk_says_nothing() -> None:
    """What is below it belongs to the outer one."""
    spans = [span(1, 90, entry=None), span(2, 1, entry=None), span(3, 2, tokens=5)]
    trace = LocalTrace(spans)
    assert trace.requests == {span_id(1)}
    assert quantity(*spans) == 5


def test_a_server_span_below_one_of_another_service_is_a_request() -> None:
    """Two services of old SDKs."""
    spans = [span(1, 90, entry=None), span(2, 1, entry=None, service="billing"), span(3, 2, tokens=5)]
    assert LocalTrace(spans).request_of(span_id(3)) == span_id(2)


@pytest.mark.parametrize(
    "circle",
    [
        [span(5, 5, tokens=3)],
        [span(5, 6, tokens=3), span(6, 5)],
        [span(5, 6), span(6, 7), span(7, 5), span(8, 7, tokens=3)],
    ],
)
def test_circles_end(circle: list[TraceSpan]) -> None:
    """Parents that lead back are a broken chain; a number in them is counted once."""
    assert quantity(ENTRY, *circle) == 3
    assert quantity(ENTRY, *reversed(circle)) == 3


def test_a_chain_of_ten_thousand_spans_is_followed() -> None:
    """Its length costs no stack, and is walked once."""
    chain = [ENTRY, *(span(number, number - 1, tokens=9) for number in range(2, 10_000))]
    assert quantity(*chain) == 9


def test_a_number_below_a_missing_span_may_be_in_a_total_already() -> None:
    """Whether an agent that ended later is above what is missing, nobody knows; so nothing is billed by guessing."""
    agent = span(2, 1, tokens=15, ended_ns=NOW * SECOND)
    call = span(3, 77, tokens=15, ended_ns=(NOW - 1) * SECOND)
    assert quantity(ENTRY, agent, call) is None


def test_a_span_that_ended_before_repeats_nothing() -> None:
    """A total is known only when all that it sums is over."""
    first = span(2, 1, tokens=15, ended_ns=(NOW - 2) * SECOND)
    call = span(3, 77, tokens=10, ended_ns=(NOW - 1) * SECOND)
    assert quantity(ENTRY, first, call) == 25


def test_spans_below_one_missing_parent_are_siblings() -> None:
    """None of them can be above the others."""
    assert quantity(ENTRY, span(2, 77, tokens=10), span(3, 77, tokens=5)) == 15


def test_the_requests_own_total_is_above_what_hangs_in_the_air() -> None:
    """Wherever that belongs, it is below the request."""
    assert quantity(span(1, 90, entry=True, tokens=15), span(2, 77, tokens=15)) == 15


def test_what_was_counted_before_does_not_count_again() -> None:
    """Neither it, nor what is above or below it; what is beside it does."""
    spans = [ENTRY, span(2, 1, tokens=15), span(3, 2, tokens=10), span(4, 3, tokens=10), span(5, 2, tokens=5)]
    share = LocalTrace(spans).share(span_id(1), [TOKENS], {(span_id(3), TOKENS)})
    assert [(part.span_id, part.amount) for part in share.parts] == [(span_id(5), 5)]
    assert LocalTrace(spans[:4]).share(span_id(1), [TOKENS], {(span_id(2), TOKENS)}).parts == ()


def test_a_request_of_which_all_was_counted_elsewhere_counts_nothing_more() -> None:
    """That is known, so it is 0 and no bad quantity."""
    share = LocalTrace([ENTRY, span(2, 1, tokens=15)]).share(span_id(1), [TOKENS], {(span_id(2), TOKENS)})
    assert share.found
    assert share.quantity == 0


def test_no_user_stays_the_reason() -> None:
    """With a quantity or without one."""
    waiting = request(1, user=None)
    without = settled(waiting, LocalTrace([ENTRY]).share(span_id(1), [TOKENS]))
    known = settled(waiting, LocalTrace([ENTRY, span(2, 1, tokens=5)]).share(span_id(1), [TOKENS]))
    assert (without.reason, without.quantity) == (Reason.NO_USER, None)
    assert (known.reason, known.quantity) == (Reason.NO_USER, 5)
    assert without.terms is TERMS
