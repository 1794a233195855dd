"""What holds for quantities of any trace: order and batches never matter, and neither does the vendor's spelling."""

import random
from collections import Counter
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from span_builder import LOCAL, NOW, REMOTE, engine
from trace_builder import CLIENT, INTERNAL, SERVER, Placed, below, exported, request, summing

from otel_usageflow.policy.local_trace import complete
from otel_usageflow.policy.preview import preview
from otel_usageflow.policy.quantity import exact
from otel_usageflow.policy.spellings import CACHE_READ, CACHE_WRITE, INPUT, OUTPUT, TABLE, TOTAL, UNCACHED, spellings
from otel_usageflow.policy.tokens import ABSENT, summand

ATTRIBUTES = st.dictionaries(
    st.sampled_from([INPUT, OUTPUT, TOTAL, "llm.token_count.prompt", "llm.token_count.total", CACHE_READ, "t"]),
    st.one_of(st.integers(-1, 50), st.sampled_from(["7", "1.5", "x", None, 2.0])),
    max_size=3,
)
POLICIES = [
    summing(TOTAL, changes={"name": "total", "event_name": "total"}),
    summing(INPUT, "t", scope=["a"], changes={"name": "scoped", "event_name": "scoped"}),
    summing(UNCACHED, input_excludes_cache=["x"], changes={"name": "uncached", "event_name": "uncached"}),
]
ENGINES = [engine(*POLICIES), engine(*POLICIES, exclude_scopes=["b"])]


@st.composite
def traces(draw: st.DrawFn) -> list[Placed]:
    """A request and up to eight spans below it or below each other, of two services and scopes, some out of place."""
    spans = [request(1, flags=draw(st.sampled_from([0, LOCAL, REMOTE])))]
    for number in range(2, 2 + draw(st.integers(0, 8))):
        parent = draw(st.integers(1, number - 1) | st.sampled_from([0, 99]))
        where = {"service": draw(st.sampled_from(["shop", "other"])), "scope": draw(st.sampled_from(["a", "b"]))}
        flags = draw(st.sampled_from([0, LOCAL, REMOTE]))
        if draw(st.integers(0, 4)) == 0:
            spans.append(
                request(number, parent, flags=flags, user=draw(st.sampled_from(["acme", "b", None])), **where)
            )
        else:
            kind = draw(st.sampled_from([INTERNAL, CLIENT, SERVER]))
            end = NOW - draw(st.integers(1, 5)) * 100_000_000
            spans.append(below(parent, number, draw(ATTRIBUTES), kind=kind, flags=flags, end=end, **where))
    return spans


@given(traces(), st.randoms(use_true_random=False), st.sampled_from(ENGINES))
def test_the_order_of_spans_never_matters(spans: list[Placed], shuffler: random.Random, which: Any) -> None:
    """Recorded spans cost the same in any order, and when some were recorded twice."""
    shuffled = [*spans, *shuffler.sample(spans, len(spans) // 2)]
    shuffler.shuffle(shuffled)
    one, other = preview(which, exported(spans), NOW), preview(which, exported(shuffled), NOW)
    assert one == other


@given(traces(), st.integers(0, 9), st.sampled_from(ENGINES))
def test_batches_never_matter(spans: list[Placed], cut: int, which: Any) -> None:
    """What is handed on of two export requests is together what is handed on of one with all spans."""
    whole = which.evaluate(exported(spans), NOW)
    parts = [which.evaluate(exported(some), NOW) for some in (spans[:cut], spans[cut:])]
    assert Counter(whole.trace_spans) == Counter(one for part in parts for one in part.trace_spans)
    if all(one.entry is not None for one in whole.trace_spans):  # the others are the ledger's to settle
        asked = [one for part in parts for one in part.trace_requests]
        assert Counter(whole.trace_requests) == Counter(asked)
        both = [complete(whole.trace_spans, some) for some in (whole.trace_requests, asked)]
        assert Counter(both[0]) == Counter(both[1])


@given(st.sampled_from([INPUT, OUTPUT, TOTAL, UNCACHED, CACHE_READ, CACHE_WRITE]), ATTRIBUTES, st.data())
def test_the_vendor_never_matters(key: str, attributes: dict[str, Any], data: st.DataObject) -> None:
    """Written in any other spelling, a span that has each thing once says the same."""
    rows = [[one.key for one in row] for row in TABLE]
    held = {next((row[0] for row in rows if name in row), name): value for name, value in attributes.items()}
    respelled = {data.draw(st.sampled_from(spellings(name))): value for name, value in held.items()}
    amounts = []
    for spelled in (held, respelled):
        batch = engine(summing(key)).evaluate(exported([below(9, 1, spelled)]), NOW)
        amounts.append(batch.trace_spans[0].amounts)
    assert amounts[0] == amounts[1]


@given(
    st.dictionaries(
        st.sampled_from([*spellings(INPUT), *spellings(CACHE_READ), *spellings(CACHE_WRITE), "gen_ai.system"]),
        st.one_of(
            st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=3), st.sampled_from(["x", "0.1", 5])
        ),
        max_size=5,
    ),
    st.booleans(),
)
def test_what_is_cached_and_what_is_not_make_the_input(attributes: dict[str, Any], excludes: bool) -> None:
    """Where a span has an amount of both, uncached input is never negative, and with the cache's is all input."""
    rules = {"input_excludes_cache": ["x"]} if excludes else {}
    (span,) = (
        engine(summing(INPUT, **rules), summing(UNCACHED, **rules, changes={"name": "b", "event_name": "b"}))
        .evaluate(exported([below(9, 1, attributes)]), NOW)
        .trace_spans
    )
    amounts = {name.partition("#")[0]: amount for name, amount in span.amounts}
    whole, uncached = amounts.get(INPUT), amounts.get(UNCACHED)
    if whole is not None and uncached is not None:
        cached = [next((attributes[key] for key in keys if key in attributes), 0) for keys in CACHED]
        assert uncached >= 0
        assert Decimal(uncached) + sum(Decimal(exact(value) or 0) for value in cached) == whole


CACHED = (spellings(CACHE_READ), spellings(CACHE_WRITE))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=9))
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)


@given(
    st.dictionaries(st.sampled_from([one.key for row in TABLE for one in row]), VALUES, max_size=6),
    st.integers(0, 7),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=9),
)
def test_no_span_is_an_accident(attributes: dict[str, Any], kind: int, flags: int, parent: bytes) -> None:
    """Whatever a span holds, it is read: every amount is an exact number that can be billed, or known to be none."""
    one = below(9, 1, attributes, kind=kind % 6, flags=flags)
    one.span.parent_span_id = parent
    for which in ENGINES:
        batch = which.evaluate(exported([one]), NOW)
        assert len(batch.trace_spans) + batch.malformed == 1
        for span in batch.trace_spans:
            assert all(amount is None or (amount >= 0 and amount == exact(str(amount))) for _, amount in span.amounts)


def test_a_span_that_says_nothing_is_absent() -> None:
    """Having no such attribute is not a bad amount, for no kind of attribute."""
    assert {summand(key).amount({}) for key in (INPUT, OUTPUT, TOTAL, UNCACHED, CACHE_READ, "mine")} == {ABSENT}
