"""However calls come, a bucket of ours never empties the one that judges them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.delivery.bucket import Bucket
from otel_usageflow.delivery.limits import BURST, RATE, SEND_BURST
from otel_usageflow.testing.stripe.rate_limit import Bucket as Judge

_STEPS = st.lists(st.tuples(st.floats(0, 3), st.integers(0, 2_000), st.booleans()), min_size=1, max_size=30)


@pytest.mark.parametrize(("limit", "burst"), [(1_000, SEND_BURST), (100, BURST), (25, BURST), (20, BURST)])
@given(steps=_STEPS)
def test_no_second_has_more_calls_than_the_limit(
    limit: int, burst: float, steps: list[tuple[float, int, bool]]
) -> None:
    """Bursts, pauses and refusals in any order: the double lets every call through, and each second has room."""
    now = 100.0
    ours, judge = Bucket(limit * RATE, limit * burst, lambda: now), Judge()
    made: list[float] = []
    for pause, wanted, refused in steps:
        now += pause
        if refused:
            ours.slow_down()
        for _ in range(wanted):
            if (wait := ours.missing()) > 0.2:
                break
            now += wait + 1e-9
            ours.spend()
            made.append(now)
            assert judge.take(limit, now)
    first = 0
    for last, at in enumerate(made):
        while at - made[first] >= 1:
            first += 1
        assert last - first + 1 <= max(limit * (RATE + burst), 1) + 1


@given(batches=st.lists(st.integers(1, 100), min_size=1, max_size=200))
def test_a_debt_is_paid_before_the_next_batch(batches: list[int]) -> None:
    """Events of batches of any size stay below the rate: what a large one took too much, the next one waits for."""
    now = 100.0
    bucket = Bucket(850, 50, lambda: now)
    for events in batches:
        now += bucket.missing(events) + 1e-9
        bucket.spend(events)
    assert sum(batches) <= 850 * (now - 100.0) + 50 + 100
