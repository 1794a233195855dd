"""What holds for quantities that are summed over a trace, whatever the trace looks like."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from traces import NOW, SECOND, TOKENS, reference_owners, reference_tokens, request, span, span_id

from otel_usageflow.model.usage import TraceSpan
from otel_usageflow.policy.local_trace import LocalTrace, complete

KEYS = ("in", TOKENS)
AMOUNTS = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 9) | st.none(), max_size=2)
SERVICES = st.sampled_from(["api", "api", "billing"])


@st.composite
def whole_traces(draw: st.DrawFn) -> list[TraceSpan]:
    """Traces in which every chain leads to its end."""
    spans = []
    for number in range(1, draw(st.integers(1, 12)) + 1):
        parent = draw(st.none() | st.integers(1, number - 1)) if number > 1 else None
        entry = draw(st.sampled_from([True, False, False, False, None]))
        spans.append(span(number, parent, entry=entry, service=draw(SERVICES), amounts=draw(AMOUNTS)))
    return spans


@st.composite
def any_traces(draw: st.DrawFn) -> list[TraceSpan]:
    """Anything: parents that are not there, circles, spans that are their own parents."""
    numbers = draw(st.lists(st.integers(1, 9), unique=True, max_size=9))
    return [
        span(
            number,
            draw(st.none() | st.integers(1, 11)),
            entry=draw(st.sampled_from([True, False, False, None])),
            service=draw(SERVICES),
            amounts=draw(AMOUNTS),
            ended_ns=(NOW + draw(st.integers(0, 3))) * SECOND,
        )
        for number in numbers
    ]


@given(any_traces())
def test_everything_belongs_where_walking_up_leads(spans: list[TraceSpan]) -> None:
    """The owners are those of the slow reference, and asking ends."""
    trace = LocalTrace(spans)
    assert {one.span_id: trace.request_of(one.span_id) for one in spans} == reference_owners(spans)


@given(whole_traces())
def test_quantities_are_those_of_asking_every_pair(spans: list[TraceSpan]) -> None:
    """Leaves by attribute, found by comparing each span with each other."""
    trace = LocalTrace(spans)
    for owner in trace.requests:
        assert trace.share(owner, KEYS).quantity == reference_tokens(spans, owner, KEYS)


@given(any_traces(), st.randoms(use_true_random=False))
def test_order_changes_nothing(spans: list[TraceSpan], random: Random) -> None:
    """Spans are a set."""
    asked = [request(int.from_bytes(one.span_id), keys=KEYS) for one in spans if one.entry]
    before = complete(spans, asked)
    shuffled = spans[:]
    random.shuffle(shuffled)
    assert complete(shuffled, asked) == before


@given(any_traces())
def test_no_number_is_in_two_requests_or_lost(spans: list[TraceSpan]) -> None:
    """A number of a leaf is in the one request that it belongs to, or with the undecided, or in the background."""
    trace = LocalTrace(spans)
    told = [one.span_id for one in (*trace.undecided, *trace.background)]
    for owner in trace.requests:
        told += [one.span_id for one in spans if one.amounts and trace.request_of(one.span_id) == owner]
    assert sorted(told) == sorted(one.span_id for one in spans if one.amounts)
    counting = [part[:2] for owner in trace.requests for part in trace.share(owner, KEYS).parts]
    assert len(counting) == len(set(counting))


@given(any_traces(), st.data())
def test_counting_in_two_steps_never_counts_twice(spans: list[TraceSpan], data: st.DataObject) -> None:
    """What is counted after something was counted is neither it, nor above or below it."""
    trace = LocalTrace(spans)
    for owner in trace.requests:
        first = trace.share(owner, KEYS).parts
        counted = {part[:2] for part in first if data.draw(st.booleans())}
        second = {part[:2] for part in trace.share(owner, KEYS, counted).parts}
        assert second == {part[:2] for part in first} - counted


@given(st.data())
def test_lost_links_never_make_a_bill_larger(data: st.DataObject) -> None:
    """With agents that repeat their totals, and spans between lost, the quantity is the true one or none."""
    count = data.draw(st.integers(2, 10))
    parents = {number: data.draw(st.integers(1, number - 1)) for number in range(2, count + 1)}
    leaves = [number for number in range(1, count + 1) if number not in parents.values()]
    used = {leaf: data.draw(st.integers(0, 9)) for leaf in leaves}
    repeats = {number for number in parents.values() if data.draw(st.booleans())}
    ends = {leaf: data.draw(st.integers(0, 5)) for leaf in leaves}
    totals = dict(used)
    for number in range(count, 1, -1):
        ends[parents[number]] = max(ends.get(parents[number], 0), ends[number] + data.draw(st.integers(0, 2)))
        totals[parents[number]] = totals.get(parents[number], 0) + totals[number]
    lost = {number for number in parents.values() if number != 1 and data.draw(st.booleans())}
    spans = [
        span(
            number,
            parents.get(number, 90),
            entry=number == 1,
            tokens=totals[number] if number in used or number in repeats else None,
            ended_ns=(NOW + ends[number]) * SECOND,
        )
        for number in range(1, count + 1)
        if number not in lost
    ]
    assert LocalTrace(spans).share(span_id(1), (TOKENS,)).quantity in (None, sum(used.values()))
