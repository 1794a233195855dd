"""How often Stripe is read: what it costs in a month stays below the read allocation of a small account."""

import pytest

from otel_usageflow.exporters.stripe_meter.directory_rhythm import DAY, Hurry, Spare, listing_pause, poll_pause
from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM

MONTH = 30 * DAY
REFRESH = 600.0
ALLOCATED = 10_000


class Time:
    """Seconds, moved by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("customers", [0, 1, 100, 1_000, 10_000])
def test_an_idle_account_stays_within_its_allocation(customers: int) -> None:
    """Polls, listings, meters and reports leave room for people; of a small account with all hurry there may be."""
    pages = max(1, -(-customers // 100))
    listings = pages * MONTH / listing_pause(customers, REFRESH, blind=False)
    polls = MONTH / poll_pause(REFRESH, webhook=False)
    meters = MONTH / (6 * REFRESH)
    reports = MONTH / RHYTHM.reports_idle
    assert listings <= 2_160
    assert polls + listings + meters + reports < 0.9 * ALLOCATED
    hurried = MONTH / 1_200
    if customers <= 1_000:
        assert polls + listings + meters + reports + hurried < 0.9 * ALLOCATED


def test_large_directories_are_listed_weekly() -> None:
    """A million customers cost 10,000 reads a week, which some 90 transactions a month allow for."""
    assert listing_pause(1_000_000, REFRESH, blind=False) == 7 * DAY
    assert listing_pause(100, REFRESH, blind=False) == DAY


def test_without_events_listings_are_all_there_is() -> None:
    """Then they come as often as changes would be looked for, but once a day for large accounts."""
    assert listing_pause(100, REFRESH, blind=True) == REFRESH
    assert listing_pause(1_000, REFRESH, blind=True) == 6_000
    assert listing_pause(1_000_000, REFRESH, blind=True) == DAY


def test_a_webhook_makes_polls_rare() -> None:
    """They are a precaution then: once an hour, or as rarely as was asked for."""
    assert poll_pause(REFRESH, webhook=True) == 3_600
    assert poll_pause(7_200, webhook=True) == 7_200


def test_a_hurry_ends() -> None:
    """At once for somebody new, then less and less often, and not at all after ten minutes."""
    time = Time()
    hurry = Hurry(time)
    assert hurry.pause is None
    hurry.see({"acme"})
    assert hurry.pause == 1.0
    hurry.looked()
    assert hurry.pause == 5.0
    time.now = 300
    hurry.see({"acme"})
    assert hurry.pause == 30.0
    hurry.see({"acme", "other"})
    assert hurry.pause == 1.0
    hurry.looked()
    time.now = 900
    hurry.see({"acme", "other"})
    assert hurry.pause is None
    hurry.see(set())
    assert hurry.pause is None


def test_who_came_and_went_is_new_again() -> None:
    """Somebody who waits again is looked for again."""
    time = Time()
    hurry = Hurry(time)
    hurry.see({"acme"})
    hurry.looked()
    hurry.see(set())
    hurry.see({"acme"})
    assert hurry.pause == 1.0


def test_spare_reads_are_bounded() -> None:
    """Unknown users without end, as of somebody who tries keys, cost 500 reads at once and 2,160 more a month."""
    time = Time()
    spare = Spare(time)
    taken = 0
    for second in range(0, int(MONTH), 60):
        time.now = float(second)
        taken += spare.take()
    assert 500 + 2_100 <= taken <= 500 + 2_161


def test_spare_reads_are_kept_for_who_needs_them() -> None:
    """Searching leaves some to polls."""
    time = Time()
    spare = Spare(time)
    assert sum(spare.take(keep=100) for _ in range(1_000)) == 400
    assert sum(spare.take() for _ in range(1_000)) == 100
    assert not spare.take(10)
