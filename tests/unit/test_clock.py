"""The steady clock: believes the wall when it goes forward, and what has passed when it goes back."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.model.clock import SECOND, SteadyClock

NOON = 1_700_000_000
DAY = 86_400


class Times:
    """A wall that can be set, and time that passes on both."""

    def __init__(self) -> None:
        self.wall = NOON * SECOND
        self.passed = 5 * SECOND
        self.clock = SteadyClock(lambda: self.wall, lambda: self.passed)

    def go(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += int(seconds * SECOND)
        self.passed += int(seconds * SECOND)

    def set(self, seconds: float) -> None:
        """Set the wall by so much."""
        self.wall += int(seconds * SECOND)


def test_it_tells_the_time_of_the_wall() -> None:
    """As long as nobody sets it, to the nanosecond."""
    times = Times()
    times.go(1.5)
    assert times.clock.ns() == times.wall
    assert times.clock() == NOON + 1.5
    assert times.clock.ahead == 0


@pytest.mark.parametrize("back", [1, 40 * DAY, NOON])
def test_set_back_it_goes_on(back: int) -> None:
    """However far the wall is set back, what has passed has passed, and it says by how much they differ."""
    times = Times()
    times.go(100)
    times.set(-back)
    times.go(10)
    assert times.clock() == NOON + 110
    assert times.clock.ahead == back


def test_set_back_and_right_again() -> None:
    """When the wall is right again, so is everything."""
    times = Times()
    times.set(-DAY)
    times.go(60)
    times.set(DAY)
    times.go(60)
    assert times.clock() == NOON + 120 == times.wall / SECOND
    assert times.clock.ahead == 0


def test_set_forward_it_follows_and_can_be_put_right() -> None:
    """A machine that woke with a slow clock is corrected; a wrong step forward does no harm once it is taken back."""
    times = Times()
    times.set(40 * DAY)
    assert times.clock() == NOON + 40 * DAY
    times.set(-40 * DAY)
    times.go(1)
    assert times.clock() == NOON + 1
    assert times.clock.ahead == 0


@given(st.lists(st.tuples(st.floats(0, DAY), st.integers(-100 * DAY, 100 * DAY)), max_size=20))
def test_it_is_never_behind_what_has_passed(steps: list[tuple[float, int]]) -> None:
    """Whatever is done to the wall, a reading is no less than start plus passed, nor than the wall."""
    times = Times()
    begun = times.passed
    for passing, setting in steps:
        times.go(passing)
        times.set(setting)
        assert times.clock.ns() == max(times.wall, NOON * SECOND + times.passed - begun)


def test_the_real_one_is_right() -> None:
    """By the clocks of this machine it tells unix time, and is not ahead of it."""
    clock = SteadyClock()
    before, reading, after = time.time(), clock(), time.time()
    assert before - 0.1 <= reading <= after + 0.1
    assert clock.ahead < 0.1
