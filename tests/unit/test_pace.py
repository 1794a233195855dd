"""Pacing, on a clock that only a test moves."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from otel_usageflow.delivery.bucket import Bucket
from otel_usageflow.delivery.gate import Gate
from otel_usageflow.delivery.limits import Limits
from otel_usageflow.delivery.pace import SEARCH, Pace
from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.limits import limits_of
from otel_usageflow.model.outcome import TooFast

LIVE = Limits(basic=100, endpoint=25, search=20, sends=1_000)
SHARED = Limits(basic=25, endpoint=25, search=20)


class Clock:
    """Monotonic seconds that pass when somebody sleeps, and then only as long as the first of all sleepers does."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, wait: float) -> None:
        """In place of `asyncio.sleep`."""
        self._sleepers.append((self.now + wait + 1e-9, asyncio.get_running_loop().create_future()))
        await self._sleepers[-1][1]

    async def run(self, until: float) -> None:
        """Let time pass."""
        while True:
            for _ in range(20):
                await _REAL_SLEEP(0)
            due = min((at for at, _ in self._sleepers), default=until)
            if due >= until:
                self.now = until
                return
            self.now = max(self.now, due)
            woken, self._sleepers = (
                [one for one in self._sleepers if one[0] <= due],
                [one for one in self._sleepers if one[0] > due],
            )
            for _, future in woken:
                if not future.done():
                    future.set_result(None)


_REAL_SLEEP = asyncio.sleep


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still unless it is run."""
    clock = Clock()
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    return clock


async def _calls(clock: Clock, seconds: float, *kinds: Callable[[], Awaitable[None]]) -> list[list[float]]:
    """When each of these calls was made that are made one after the other, as often as may be, for so long."""
    made: list[list[float]] = [[] for _ in kinds]

    async def go_on(call: Callable[[], Awaitable[None]], when: list[float]) -> None:
        while True:
            await call()
            when.append(clock.now)

    # Two of each kind, so that there is always one that waits.
    tasks = [asyncio.create_task(go_on(call, made[n])) for n, call in enumerate(kinds) for _ in range(2)]
    await clock.run(clock.now + seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return made


def _most_in_a_second(times: list[float]) -> int:
    times = sorted(times)
    return max(sum(begin <= at < begin + 1 for at in times[n : n + 2_000]) for n, begin in enumerate(times))


async def test_sends_stay_below_the_limit(clock: Clock) -> None:
    """In no second there are more sends than 95 % of 1,000, and in the long run there are 85 %."""
    (sends,) = await _calls(clock, 10, Pace(LIVE, clock).take)
    assert 8_400 <= len(sends) <= 8_560
    assert _most_in_a_second(sends) <= 950


async def test_idle_time_is_not_saved_up(clock: Clock) -> None:
    """After an hour of silence there is no burst."""
    pace = Pace(LIVE, clock)
    clock.now += 3600
    (sends,) = await _calls(clock, 1, pace.take)
    assert len(sends) <= 901


async def test_reads_of_one_endpoint_leave_room_for_those_of_others(clock: Clock) -> None:
    """Each endpoint stays below 25 a second, search below 20, all of them below 100; sends have their own budget."""
    pace = Pace(LIVE, clock)
    endpoints = ["customers", "events", "meters", "event_summaries", "core_events", SEARCH]
    made = await _calls(clock, 5, pace.take, *(lambda e=e: pace.read(e) for e in endpoints))
    for endpoint, times in zip(endpoints, made[1:], strict=True):
        assert _most_in_a_second(times) <= (20 if endpoint == SEARCH else 25)
        assert times
    assert 400 <= sum(map(len, made[1:])) <= 440
    assert _most_in_a_second([at for times in made[1:] for at in times]) <= 95
    assert len(made[0]) >= 4_200
    assert pace.reads == sum(map(len, made[1:]))


async def test_sends_go_before_reads_but_reads_have_their_share(clock: Clock) -> None:
    """In a sandbox sends and reads share 25 a second: of 21 a fifth are reads, while both wait."""
    pace = Pace(SHARED, clock)
    sends, reads = await _calls(clock, 20, pace.take, lambda: pace.read("customers"))
    assert _most_in_a_second(sends + reads) <= 25
    assert len(sends) + len(reads) >= 415
    assert 3.0 <= len(sends) / len(reads) <= 5.5


async def test_who_is_alone_has_it_all(clock: Clock) -> None:
    """What is kept for reads is lost on nobody while none waits, and the other way round."""
    (sends,) = await _calls(clock, 10, Pace(SHARED, clock).take)
    pace = Pace(SHARED, clock)
    (reads,) = await _calls(clock, 10, lambda: pace.read("customers"))
    assert len(sends) >= 210
    assert len(reads) >= 210


async def test_a_few_reads_do_not_wait(clock: Clock) -> None:
    """What a command asks at its beginning is asked at once."""
    pace = Pace(LIVE, clock)
    for endpoint in ("meters", "meters", "customers", "customers", "core_events"):
        await pace.read(endpoint)
    assert clock.now == 100.0


async def test_of_a_stream_events_are_counted(clock: Clock) -> None:
    """10,000 a second are 85 batches of 100 events, not 8,500."""
    pace = Pace(Limits(100, 25, 20, sends=10_000, by_event=True), clock)
    (batches,) = await _calls(clock, 5, lambda: pace.take(100))
    assert 420 <= len(batches) <= 432
    assert _most_in_a_second(batches) <= 95


def test_it_halves_and_wins_back(clock: Clock) -> None:
    """Refusals of one moment halve the rate once; later it recovers by a twentieth of the full rate a second."""
    bucket = Bucket(100, 10, clock)
    for _ in range(10):
        bucket.slow_down()
    assert bucket.rate == 50
    clock.now += 2
    bucket.slow_down()
    assert bucket.rate == 25
    clock.now += 1
    assert bucket.rate == 25
    clock.now += 5
    assert bucket.rate == 50
    clock.now += 1000
    assert bucket.rate == 100


@pytest.mark.parametrize("rate", [1000.0, 1.0, 0.5])
def test_slowing_down_never_speeds_up(clock: Clock, rate: float) -> None:
    """However slow it was configured, a refusal makes it no faster, and it never stands still."""
    bucket = Bucket(rate, rate / 10, clock)
    for _ in range(50):
        bucket.slow_down()
        clock.now += 1.5
    assert 0 < bucket.rate <= rate


@pytest.mark.parametrize(
    ("why", "sends", "reads", "places"),
    [
        (TooFast.ENDPOINT_RATE, 425, 85, 64),
        (TooFast.GLOBAL_RATE, 850, 42.5, 64),
        (TooFast.GLOBAL_CONCURRENCY, 850, 85, 32),
        (TooFast.ENDPOINT_CONCURRENCY, 850, 85, 32),
        (TooFast.RESOURCE, 850, 85, 64),
        (TooFast.UNSAID, 425, 42.5, 32),
    ],
)
def test_a_refusal_slows_what_it_names(clock: Clock, why: TooFast, sends: float, reads: float, places: int) -> None:
    """Each reason has its own remedy, none at all touches what it does not name, and all of it comes back."""
    pace = Pace(LIVE, clock)
    pace.refused(why)
    assert (pace.rate, pace._basic.rate, pace.places) == (sends, reads, places)
    assert pace.refusals == {why: 1}
    clock.now += 120
    pace.room(1)
    assert (pace.rate, pace._basic.rate, pace.places) == (850, 85, 64)


def test_a_refused_read_slows_its_endpoint(clock: Clock) -> None:
    """A limit of one endpoint says nothing about others, nor about sends."""
    pace = Pace(LIVE, clock)
    pace.refused(TooFast.ENDPOINT_RATE, "customers")
    assert pace._endpoint("customers").rate == 25 * 0.85 / 2
    assert (pace._endpoint("events").rate, pace.rate, pace._basic.rate) == (25 * 0.85, 850, 85)


def test_places_grow_while_they_are_all_that_is_short(clock: Clock) -> None:
    """A slow answer is no reason to stay below the rate: there are up to 256 in flight."""
    pace = Pace(LIVE, clock)
    for _ in range(300):
        pace.room(pace.places)
    assert pace.places == 256
    pace.refused(TooFast.ENDPOINT_CONCURRENCY)
    assert pace.places == 128
    assert pace.room(128) == 0


KEYS = {"live": "sk_live_1", "test": "sk_test_1"}


@pytest.mark.parametrize(
    ("mode", "account", "by_hand", "sends", "basic"),
    [
        ("live", "", None, 850, 85),
        ("live", "acct_1", None, 85, 85),
        ("test", "", None, 21.25, 21.25),
        ("test", "acct_1", None, 21.25, 21.25),
        ("live", "", 5_000, 5_000, 85),
        ("live", "", 10, 10, 85),
        ("live", "acct_1", 10, 10, 85),
        ("live", "acct_1", 500, 500, 500),
        ("test", "", 10, 10, 21.25),
        ("test", "", 500, 500, 500),
    ],
)
def test_the_limits_follow_the_key_and_the_account(
    clock: Clock, mode: str, account: str, by_hand: float | None, sends: float, basic: float
) -> None:
    """By default what Stripe documents; what is set by hand is a bound if less, and a raised limit if more."""
    config = StripeMeterConfig.model_validate(
        {"api_key": KEYS[mode], "sending_queue": {"storage": "s"}, "calls_per_second": by_hand}
    )
    pace = Pace(limits_of(config, account), clock)
    assert (round(pace.rate, 6), round(pace._basic.rate, 6)) == (sends, basic)


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
