"""Who goes first: accounts in turn, and within an account fresh usage beside the backlog. Simulated."""

from calendar import timegm
from collections import Counter
from itertools import pairwise

import pytest

from otel_usageflow.delivery.fairness import Turns, fresh_since, is_urgent
from otel_usageflow.delivery.lanes import Lanes
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.model.meter_event import MeterEvent

NOON = timegm((2026, 6, 15, 12, 0, 0))
HOUR = 3600


class Line:
    """Lanes with events put in, and what is chosen from them settled at once."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        self._number = 0

    def add(
        self, customer: str, *, account: str = "", age: float = 0, fresh: bool = False, attempts: int = 0
    ) -> MeterEvent:
        """One more event."""
        self._number += 1
        name = f"uf_{self._number}"
        event = MeterEvent(
            self._number, account, "api_request", customer, "1", int(NOON - age), name, name, {}, attempts
        )
        self.lanes.add(event, fresh=fresh)
        return event

    def send(self, most: int, room: int = 1_000) -> list[MeterEvent]:
        """Choose, send and settle."""
        chosen = list(self.lanes.choose(lambda _account: room, most, NOON))
        for event in chosen:
            self.lanes.start(event)
        for event in chosen:
            self.lanes.finish(event)
        return chosen


def test_fresh_usage_has_half_of_the_turns() -> None:
    """Beside a backlog of 1,000 lanes, every second event is a fresh one until there are none."""
    line = Line()
    for number in range(1_000):
        line.add(f"old{number}", age=HOUR)
    for number in range(100):
        line.add(f"new{number}", fresh=True)
    assert Counter(e.customer[:3] for e in line.send(100)) == {"old": 50, "new": 50}
    assert Counter(e.customer[:3] for _ in range(20) for e in line.send(10)) == {"old": 150, "new": 50}


def test_what_will_soon_be_lost_goes_before_fresh_usage() -> None:
    """Of the turns seven in eight are for usage that Stripe will take no more in a day."""
    line = Line()
    for number in range(1_000):
        line.add(f"old{number}", age=34.5 * DAY)
        line.add(f"new{number}", fresh=True)
    assert Counter(e.customer[:3] for e in line.send(800)) == {"old": 700, "new": 100}


@pytest.mark.parametrize(
    ("at", "now", "urgent"),
    [
        (NOON - 60, NOON, False),
        (NOON - 20 * DAY, NOON, False),
        (NOON - 34.1 * DAY, NOON, True),
        (timegm((2026, 5, 31, 23, 59, 0)), timegm((2026, 6, 1, 0, 30, 0)), True),
        (timegm((2026, 5, 31, 23, 59, 0)), timegm((2026, 6, 3, 23, 0, 0)), True),
        (timegm((2026, 5, 31, 23, 59, 0)), timegm((2026, 6, 4, 1, 0, 0)), False),
        (timegm((2026, 6, 1, 0, 0, 0)), timegm((2026, 6, 1, 0, 30, 0)), False),
    ],
)
def test_what_is_urgent(at: float, now: float, urgent: bool) -> None:
    """The last day of 35, and a month that has ended while invoices may still be open."""
    assert is_urgent(at, now) is urgent


def test_nobody_owes_turns_for_a_time_without_a_rival() -> None:
    """A backlog that was alone for long, or fresh usage that was, gets no more than its share afterwards."""
    turns = Turns()
    dealt = [turns.backlog_next(NOON - HOUR, NOON) for _ in range(1_000)]
    assert sum(dealt) == 500
    assert all(one != other for one, other in pairwise(dealt))


def test_accounts_take_turns() -> None:
    """A backlog of one account keeps no other waiting, however small the steps are in which is sent."""
    line = Line()
    for number in range(500):
        line.add(f"c{number}", account="acct_big", age=HOUR)
    for account in ("acct_a", "acct_b"):
        for number in range(10):
            line.add(f"c{number}", account=account, fresh=True)
    sent = Counter(event.account for _ in range(30) for event in line.send(1))
    assert sent == {"acct_big": 10, "acct_a": 10, "acct_b": 10}


def test_an_account_without_room_is_passed_over() -> None:
    """What an account may not send now costs the others nothing."""
    line = Line()
    for number in range(50):
        line.add(f"c{number}", account="acct_slow")
        line.add(f"c{number}", account="acct_fast")
    room = {"acct_slow": 2, "acct_fast": 40}
    chosen = list(line.lanes.choose(room.__getitem__, 30, NOON))
    assert Counter(event.account for event in chosen) == {"acct_slow": 2, "acct_fast": 28}


def test_fresh_usage_passes_the_backlog_of_its_own_lane() -> None:
    """It goes before what waits in its lane, but after what is under way there, one at a time."""
    line = Line()
    old = [line.add("cus", age=HOUR - n) for n in range(3)]
    (under_way,) = line.lanes.choose(lambda _account: 9, 9, NOON)
    line.lanes.start(under_way)
    fresh = [line.add("cus", fresh=True), line.add("cus", fresh=True)]
    assert line.lanes.holds_fresh(under_way.lane)
    assert list(line.lanes.choose(lambda _account: 9, 9, NOON)) == []
    line.lanes.finish(under_way)
    assert [event for _ in range(4) for event in line.send(9)] == [*fresh, *old[1:]]
    assert not line.lanes.holds_fresh(under_way.lane)
    assert line.lanes.events == 0


def test_an_event_that_is_to_be_tried_again_stays_the_first_of_its_lane() -> None:
    """What may have been counted is settled before anything else of the lane is sent, fresh or not."""
    line = Line()
    old = line.add("cus", age=HOUR)
    (under_way,) = line.lanes.choose(lambda _account: 9, 9, NOON)
    line.lanes.start(under_way)
    line.lanes.delay(under_way, 5.0)
    fresh = line.add("cus", fresh=True)
    line.lanes.wake(4.0)
    assert line.send(9) == []
    line.lanes.wake(5.0)
    assert [event for _ in range(2) for event in line.send(9)] == [old, fresh]


def test_what_an_earlier_life_tried_stays_the_first_of_its_lane() -> None:
    """An event of before a restart that has been tried is not passed either."""
    line = Line()
    tried = line.add("cus", age=HOUR, attempts=1)
    fresh = line.add("cus", fresh=True)
    assert [event for _ in range(2) for event in line.send(9)] == [tried, fresh]


def test_fresh_is_counted_from_whole_minutes() -> None:
    """Windows of one minute may merge, so that the border never parts them; usage is fresh for two minutes."""
    for second in range(120):
        since = fresh_since(NOON + second)
        assert since % 60 == 0
        assert 120 <= NOON + second - since < 180
