"""Sampling: whatever a trace state holds, whatever the ratio, and whatever the random ids are."""

import random
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from span_builder import NOW, engine, http, payload, policy, span

from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.policy.quantity import LIMIT
from otel_usageflow.policy.sampling import FULL, Doubt, weight
from otel_usageflow.policy.trace_ids import MOST, kept_by, needed
from otel_usageflow.policy.weighing import weighed

TRACE_IDS = st.binary(min_size=16, max_size=16)
PIECES = st.sampled_from([b"ot", b"=", b",", b";", b":", b"th", b"rv", b"p", b"c", b"8", b"63", b" ", b"\xff", b"\0"])
STATES = st.lists(PIECES, max_size=30).map(b"".join) | st.binary(max_size=600)


@given(STATES, TRACE_IDS)
def test_no_trace_state_raises(state: bytes, trace_id: bytes) -> None:
    """Any bytes give a weight of at least 1, a doubt, or nothing."""
    said = weight(state, trace_id)
    assert said is None or isinstance(said, Doubt) or said >= 1


@given(st.integers(0, FULL - 1), TRACE_IDS)
def test_a_threshold_that_was_applied_is_the_weight(threshold: int, trace_id: bytes) -> None:
    """Written as the specification has it, zeros at its end left out, it is what a sampler multiplied by; or it is
    inconsistent, exactly where the sampler would have dropped the span."""
    text = f"{threshold:014x}".rstrip("0") or "0"
    said = weight(f"ot=th:{text}".encode(), trace_id)
    if int.from_bytes(trace_id[9:], "big") >= threshold:
        assert said == Fraction(FULL, FULL - threshold)
    else:
        assert said is Doubt.INCONSISTENT


@given(
    st.integers(0, LIMIT - 1) | st.decimals(0, 10**6, places=18),
    st.integers(0, FULL - 1).map(lambda threshold: Fraction(FULL, FULL - threshold)),
)
def test_a_product_is_within_its_bound(quantity: int | Decimal, count: Fraction) -> None:
    """A weighed quantity is off by less than 5 * 10^-10, has at most 18 decimals and is no float."""
    product = weighed(quantity, count)
    exact = Fraction(quantity) * count
    if product is None:
        assert exact >= LIMIT - Fraction(1, 10**9)
        return
    assert isinstance(product, int | Decimal)
    assert 0 <= product < LIMIT
    assert abs(Fraction(product) - exact) < Fraction(5, 10**10)
    assert (Fraction(product) * 10**18).denominator == 1
    if 10**18 % exact.denominator == 0:
        assert product == exact


@settings(max_examples=300)
@given(st.integers(0, 2**64), st.integers(0, MOST))
def test_random_ids_never_look_sampled(seed: int, count: int) -> None:
    """Ids of requests that all arrived are not taken for sampled ones; by chance they are in one of 10^16 sets."""
    chance = random.Random(seed)
    assert kept_by({chance.randbytes(16) for _ in range(count)}) is None


@settings(max_examples=200)
@given(st.integers(0, 2**64), st.floats(0.0001, 0.9), st.integers(0, 200))
def test_a_ratio_sampler_always_shows(seed: int, ratio: float, more: int) -> None:
    """Ids below a ratio of at most 90 % show it, as soon as there are enough of them."""
    chance = random.Random(seed)
    count = min(max(64, needed(ratio)) + more, MOST)
    bound = int(ratio * 2**64)
    found = kept_by({chance.randbytes(8) + chance.randrange(bound).to_bytes(8, "big") for _ in range(count)})
    assert found is not None
    assert found.share <= ratio


ARRIVALS = st.lists(
    st.tuples(st.sampled_from(["", "ot=th:8", "ot=th:e666", "ot=p:2", "ot=th:zz", "ot=th:ffff"]), TRACE_IDS),
    max_size=30,
)


@given(ARRIVALS, st.randoms(use_true_random=False), st.integers(1, 10))
def test_batches_do_not_change_a_weighed_bill(
    arrived: list[tuple[str, bytes]], chance: random.Random, size: int
) -> None:
    """Under adjust, too, the same requests cost the same in any order and in any batches."""
    judge = engine(policy()).policies
    adjusting = PolicyEngine(judge, heaviest=1000)
    spans = []
    for number, (state, trace_id) in enumerate(arrived, 1):
        one = span(http() | {"http.request.header.x-account-id": "acme"}, number=number)
        one.trace_state, one.trace_id = state, trace_id if any(trace_id) else b"\x01" * 16
        spans.append(one)
    whole = adjusting.evaluate(payload(*spans), NOW).records
    chance.shuffle(spans)
    parts = [
        record
        for at in range(0, len(spans), size)
        for record in adjusting.evaluate(payload(*spans[at : at + size]), NOW).records
    ]
    assert sorted(parts, key=lambda record: record.span_id) == sorted(whole, key=lambda record: record.span_id)
