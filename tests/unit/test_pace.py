"""Pacing, on a clock that only a test moves."""

import asyncio

import pytest

from otel_usageflow.delivery.gate import Gate
from otel_usageflow.delivery.pace import Pace
from otel_usageflow.delivery.retry import Backoff


class Clock:
    """Monotonic seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


async def _taken(pace: Pace, clock: Clock, seconds: float, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many turns there are within so many seconds, with the clock in place of sleeping."""
    until = clock.now + seconds
    turns = 0

    async def sleep(wait: float) -> None:
        clock.now += wait + 1e-9

    monkeypatch.setattr(asyncio, "sleep", sleep)
    while clock.now < until:
        await pace.take()
        turns += 1
    return turns


async def test_no_more_calls_than_the_rate(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds at 100 a second are 1,000 calls, and a tenth of a second's worth from before."""
    assert abs(await _taken(Pace(100, clock), clock, 10, monkeypatch) - 1_010) <= 2


async def test_idle_time_is_not_saved_up(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour of silence there is no burst."""
    pace = Pace(100, clock)
    clock.now += 3600
    assert await _taken(pace, clock, 1, monkeypatch) <= 112


def test_it_halves_and_wins_back(clock: Clock) -> None:
    """Refusals of one moment halve the rate once; later it recovers by a twentieth of the full rate a second."""
    pace = Pace(100, clock)
    for _ in range(10):
        pace.slow_down()
    assert pace.rate == 50
    clock.now += 2
    pace.slow_down()
    assert pace.rate == 25
    clock.now += 1
    pace._missing()
    assert pace.rate == 25
    clock.now += 5
    pace._missing()
    assert pace.rate == 50
    clock.now += 1000
    pace._missing()
    assert pace.rate == 100


@pytest.mark.parametrize("rate", [1000.0, 1.0, 0.5])
def test_slowing_down_never_speeds_up(clock: Clock, rate: float) -> None:
    """However slow it was configured, a refusal makes it no faster, and it never stands still."""
    pace = Pace(rate, clock)
    for _ in range(50):
        pace.slow_down()
        clock.now += 1.5
    assert 0 < pace.rate <= rate


def test_the_gate_lets_one_probe_through(clock: Clock) -> None:
    """After a wall nobody passes for the pause, then one at a time until one gets through."""
    gate = Gate(Backoff(10, 2, 0, 300), clock)
    assert gate.allows(60)
    assert gate.failed(clock.now) == 10
    assert not gate.allows(0)
    assert gate.failed(clock.now - 1) is None  # was under way when the gate closed
    clock.now += 10
    assert gate.allows(0)
    assert not gate.allows(1)
    assert gate.failed(clock.now) == 20
    clock.now += 20
    assert gate.succeeded()
    assert gate.allows(60)
    assert not gate.succeeded()
