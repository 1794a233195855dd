"""The sender on a real ledger, with the world injected: its clock, its receiver, its rules."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from billing import CHAT, batch, record
from ledgers import METER, Book, book
from sender_world import NOON, World

from otel_usageflow.delivery.attempts import too_old_to_resend
from otel_usageflow.delivery.limits import Limits
from otel_usageflow.delivery.pace import Pace
from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.delivery.sender import Sender
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.freeze import Formula, FreezeRules, Lane
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Halted, Outcome, Retry, TooFast
from otel_usageflow.model.usage import UsageRecord

HOUR = 3600.0
OTHER = ("acct_2", "api_request")


async def _customers(open_book: Book, account: str, users: int) -> None:
    changes = [CustomerChange(f"cus_{n}", {"account_id": f"u{n}"}) for n in range(users)]
    await open_book.ledger.apply_customers(account, ["account_id"], changes, 1)


def _usage(users: int, account: str | None = None) -> list[UsageRecord]:
    return [record(f"u{n}", at=NOON, terms=replace(CHAT, account=account)) for n in range(users)]


def event(*, uncertain: bool, first: float | None) -> MeterEvent:
    """A meter event that was tried before, or not."""
    return MeterEvent(1, "", "api_request", "cus_1", "1", NOON, "uf_1", "uf_1", {}, 1, first, uncertain)


@pytest.mark.parametrize(
    ("uncertain", "first", "now", "too_old"),
    [
        (True, 0.0, 23 * HOUR, False),
        (True, 0.0, 23.8 * HOUR, True),
        (True, 0.0, 240 * HOUR, True),
        (False, 0.0, 240 * HOUR, False),  # certainly not processed: safe for ever
        (True, None, 240 * HOUR, False),
        (True, HOUR, HOUR - 60, False),  # a clock may be a minute off
        (True, 48 * HOUR, HOUR, True),  # tried in the future: nobody knows how long ago
    ],
)
def test_what_is_too_old_to_resend(uncertain: bool, first: float | None, now: float, too_old: bool) -> None:
    """Only an uncertain event, and only when Stripe may have forgotten its identifier."""
    assert too_old_to_resend(event(uncertain=uncertain, first=first), now) is too_old


async def _uncertain_event(open_book: Book, at: float) -> MeterEvent:
    await open_book.list_customers({"acme": "cus_1"})
    await open_book.commit(batch(record(at=NOON)), NOON)
    (frozen,) = await open_book.freeze(NOON + 10)
    await open_book.ledger.begin([frozen], at)
    return frozen


async def test_an_uncertain_event_is_set_aside_after_a_day(tmp_path: Path) -> None:
    """24 hours after its first attempt an event of unknown outcome is never sent again, also after a restart."""
    async with book(tmp_path) as open_book:
        await _uncertain_event(open_book, NOON + 20)
    async with book(tmp_path) as open_book:
        world = World(open_book, wall=NOON + 20 + DAY)
        async with world.running():
            await world.until(world.settled)
        assert world.sent == []
        assert open_book.standings() == {("acme", "unknown", None): (1, "1")}


async def test_an_outage_of_more_than_a_day_ends(tmp_path: Path) -> None:
    """When all that was under way has become too old to send again, new usage finds out that Stripe is back."""
    async with book(tmp_path) as open_book:
        await _uncertain_event(open_book, NOON + 20)
        world = World(open_book, wall=NOON + 60.0, answer=lambda _: Retry("reset", uncertain=True, everyone=True))
        async with world.running():
            await world.until(lambda: len(world.sent) >= 2)
            world.wall = NOON + 30 * HOUR
            await world.until(world.settled)
            world.answer = lambda _: Accepted()
            await open_book.commit(batch(record(at=world.wall - 60)), world.wall)
            await world.until(lambda: world.sender.counts["accepted"] == 1)
        assert open_book.standings() == {("acme", "unknown", None): (1, "1"), ("acme", "billed", None): (1, "1")}


async def test_a_machine_that_slept_while_an_attempt_waited_does_not_send_it(tmp_path: Path) -> None:
    """The day may pass between the beginning of an attempt and its turn: it is looked at once more then."""
    async with book(tmp_path) as open_book:
        await _uncertain_event(open_book, NOON + 20)
        world = World(open_book, answer=lambda _: Retry("reset", uncertain=True), calls=1)

        async def begun_again() -> bool:
            return any(event.attempts == 3 for event in await open_book.ledger.unsettled(0, 1))

        async with world.running():
            await world.until(begun_again)
            world.wall = NOON + 30 * HOUR
            await world.until(world.settled)
        assert len(world.sent) == 1
        assert open_book.standings() == {("acme", "unknown", None): (1, "1")}


async def test_the_day_is_counted_from_the_first_attempt(tmp_path: Path) -> None:
    """Later attempts do not make it younger: what failed an hour ago was first tried a day ago."""
    async with book(tmp_path) as open_book:
        await _uncertain_event(open_book, NOON + 20)
        world = World(open_book, wall=NOON + 23 * HOUR, answer=lambda _: Retry("reset", uncertain=True))
        async with world.running():
            await world.until(lambda: len(world.sent) >= 3)
            world.wall = NOON + 24 * HOUR
            await world.until(world.settled)
        assert {(e.identifier, e.idempotency_key, e.value) for e in world.sent} == {
            (world.sent[0].identifier, world.sent[0].identifier, "1")
        }
        assert all(e.first_attempt_at == NOON + 20 for e in world.sent)
        assert open_book.standings() == {("acme", "unknown", None): (1, "1")}


async def test_a_clock_that_was_set_back_does_not_make_an_event_younger(tmp_path: Path) -> None:
    """Within one life time that has passed has passed, whatever the clock on the wall says."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON)), NOON)
        world = World(open_book, answer=lambda _: Retry("reset", uncertain=True))
        async with world.running():
            await world.until(lambda: len(world.sent) >= 1)
            world.wall -= 20 * HOUR
            world.passed += 20 * HOUR
            seen = len(world.sent)
            await world.until(lambda: len(world.sent) >= seen + 2)
            world.passed += 4 * HOUR
            await world.until(world.settled)
        assert {e.first_attempt_at for e in world.sent} == {NOON + 70.0}
        assert open_book.standings() == {("acme", "unknown", None): (1, "1")}


async def test_a_refusal_before_processing_is_retried_after_any_time(tmp_path: Path) -> None:
    """What was certainly not processed is sent weeks later, too."""
    answers: list[Outcome] = [Retry("limited", too_fast=TooFast.UNSAID), Halted("key", "look"), Accepted()]
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON)), NOON)
        world = World(open_book)

        def answer(_event: MeterEvent) -> Outcome:
            world.wall += 3 * DAY
            return answers.pop(0)

        world.answer = answer
        async with world.running():
            await world.until(lambda: not answers)
            await world.until(world.settled)
        assert open_book.standings() == {("acme", "billed", None): (1, "1")}


async def test_only_a_replayed_failure_changes_the_idempotency_key(tmp_path: Path) -> None:
    """The identifier never changes; the key does after a stored failure was replayed, and is kept over a restart."""
    answers: list[Outcome] = [Retry("500", uncertain=True), Retry("replayed", uncertain=True, new_key=True)]
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON)), NOON)
        world = World(open_book, answer=lambda _: answers.pop(0) if answers else Retry("500", uncertain=True))
        async with world.running():
            await world.until(lambda: len(world.sent) >= 4)
        (stored,) = await open_book.ledger.unsettled(0, 10)
        keys = [e.idempotency_key for e in world.sent]
        assert keys[0] == keys[1] == world.sent[0].identifier
        assert set(keys[2:]) == {stored.idempotency_key} != {keys[0]}
        assert {e.identifier for e in world.sent} == {stored.identifier}


async def test_an_account_that_is_cut_off_holds_up_no_other(tmp_path: Path) -> None:
    """With hundreds of lanes of a revoked account waiting, the other account's usage is billed."""
    async with book(tmp_path) as open_book:
        open_book.meters = {METER: Formula.SUM, OTHER: Formula.SUM}
        await _customers(open_book, "", 300)
        await _customers(open_book, "acct_2", 100)
        await open_book.commit(batch(*_usage(300)), NOON)
        world = World(
            open_book,
            answer=lambda e: Accepted() if e.account else Halted("revoked", "look"),
            backoff=Backoff(3600, 1, 0, 3600),
        )
        async with world.running():
            await world.until(lambda: len(world.sent) >= 1)
            await open_book.commit(batch(*_usage(100, "acct_2")), NOON)
            await world.until(lambda: sum(bool(e.account) for e in world.sent) == 100)
        lines = Counter((u.account, u.standing) for u in open_book.usage())
        assert lines["acct_2", "billed"] == 100
        assert sum(n for (account, standing), n in lines.items() if standing == "billed" and not account) == 0


async def test_nothing_is_frozen_for_an_account_that_is_cut_off(tmp_path: Path) -> None:
    """While nothing gets through windows stay open, so that they merge."""
    async with book(tmp_path) as open_book:
        await _customers(open_book, "", 2)
        await open_book.commit(batch(*_usage(1)), NOON)
        world = World(open_book, answer=lambda _: Halted("revoked", "look"), backoff=Backoff(3600, 1, 0, 3600))
        async with world.running():
            await world.until(lambda: world.sender.counts["retried"] == 1)
            await open_book.commit(batch(*_usage(2)[1:]), NOON)
            for _ in range(5):
                world.sender.wake()
                await world.until(lambda: world.sender._next_freeze > world.sender._delivery.clock())
        assert len(world.sent) == 1
        assert open_book.standings()["u1", "collecting", None] == (1, "1")


async def test_a_slowed_account_leaves_places_to_others(tmp_path: Path) -> None:
    """Attempts that wait for the pace of one account do not fill the room of another."""
    async with book(tmp_path) as open_book:
        open_book.meters = {METER: Formula.SUM, OTHER: Formula.SUM}
        await _customers(open_book, "", 100)
        await _customers(open_book, "acct_2", 50)
        await open_book.commit(batch(*_usage(100), *_usage(50, "acct_2")), NOON)
        world = World(open_book, calls=1.0)
        world.paces["acct_2"] = Pace(Limits.exactly(100_000))
        async with world.running():
            await world.until(lambda: sum(bool(e.account) for e in world.sent) == 50)
        assert sum(not e.account for e in world.sent) < 50


async def test_a_slowed_account_does_not_keep_usage_of_others_from_being_frozen(tmp_path: Path) -> None:
    """With hundreds of lanes of it waiting for its pace, usage of another account that comes later is billed."""
    async with book(tmp_path) as open_book:
        open_book.meters = {METER: Formula.SUM, OTHER: Formula.SUM}
        await _customers(open_book, "", 300)
        await _customers(open_book, "acct_2", 50)
        await open_book.commit(batch(*_usage(300)), NOON)
        world = World(open_book, calls=1.0)
        world.paces["acct_2"] = Pace(Limits.exactly(100_000))
        async with world.running():
            await world.until(lambda: len(world.sent) >= 1)
            await open_book.commit(batch(*_usage(50, "acct_2")), NOON)
            await world.until(lambda: sum(bool(e.account) for e in world.sent) == 50)
        assert sum(not e.account for e in world.sent) < 50


async def test_a_backlog_of_an_earlier_life_is_worked_off(tmp_path: Path) -> None:
    """Thousands of unsettled events are taken up page by page; each is sent, one of a lane at a time."""
    async with book(tmp_path) as open_book:
        open_book.meters = {METER: Formula.COUNT}
        await _customers(open_book, "", 3)
        await open_book.commit(batch(*_usage(3), *(record(f"u{n % 3}", at=NOON) for n in range(3_000))), NOON)
        while await open_book.freeze(NOON + 70):
            pass
    async with book(tmp_path) as open_book:
        world = World(open_book)
        async with world.running():
            await world.until(world.settled)
        assert len({e.identifier for e in world.sent}) == len(world.sent) == 3_003
        assert world.together == 1


async def test_a_crash_of_an_attempt_is_an_unknown_outcome(tmp_path: Path) -> None:
    """A bug in sending leaves the event uncertain and its lane alive."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON)), NOON)
        world = World(open_book)

        def answer(_event: MeterEvent) -> Outcome:
            if len(world.sent) == 1:
                raise RuntimeError("a bug")
            return Accepted()

        world.answer = answer
        async with world.running():
            await world.until(lambda: len(world.sent) == 2)
            await world.until(world.settled)
        assert [e.uncertain for e in world.sent] == [False, True]


async def test_an_error_that_nobody_foresaw_does_not_end_the_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a mistake of ours the sender goes on: spans are taken all the while, and nothing is lost."""
    monkeypatch.setattr("otel_usageflow.delivery.sender._STUMBLED", 0.0)
    async with book(tmp_path) as open_book:
        await _customers(open_book, "", 1)
        await open_book.commit(batch(*_usage(1)), NOON)
        await open_book.ledger.finish_listing("", ["account_id"], 1, 1.0)
        world = World(open_book)
        good, calls = world.sender._delivery.rules, Counter[str]()

        def stumbling(busy: Callable[[Lane], bool]) -> FreezeRules:
            calls["rules"] += 1
            if calls["rules"] < 3:
                raise RuntimeError("a mistake")
            return good(busy)

        world.sender = Sender(open_book.ledger, replace(world.sender._delivery, rules=stumbling))
        async with world.running():
            await world.until(lambda: len(world.sent) == 1)
        assert calls["rules"] >= 3


@pytest.mark.parametrize("cut_off", [False, True])
async def test_memory_holds_a_part_of_a_backlog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_off: bool
) -> None:
    """However many events an earlier life left, few of them are in memory, also while none of them can be sent."""
    monkeypatch.setattr("otel_usageflow.delivery.sender._MOST_IN_MEMORY", 100)
    monkeypatch.setattr("otel_usageflow.delivery.sender._MOST_CUT_OFF", 200)
    async with book(tmp_path) as open_book:
        await _customers(open_book, "", 600)
        await open_book.ledger.finish_listing("", ["account_id"], 1, 1.0)
        await open_book.commit(batch(*_usage(600)), NOON)
        while await open_book.freeze(NOON + 70):
            pass
    async with book(tmp_path) as open_book:
        most = 0

        def answer(_event: MeterEvent) -> Outcome:
            nonlocal most
            most = max(most, world.sender._lanes.events)
            return Halted("revoked", "look") if cut_off and len(world.sent) < 20 else Accepted()

        world = World(open_book, answer=answer)
        async with world.running():
            await world.until(lambda: world.sender.counts["accepted"] == 600)
        assert 50 <= most <= (220 if cut_off else 100)
