"""Releasing and discarding: everything happens once, whoever else is at work."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from billing import CHAT, batch, record
from ledger_config import configuration
from ledgers import METER, Book, book
from quarantine_command import nothing_is_wrong, quarantine

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Outcome, Refused
from otel_usageflow.model.usage import Reason, UsageRecord


def _now() -> int:
    return int(time.time()) // 60 * 60 - 120


async def run(directory: Path, *arguments: str) -> int:
    """The same, beside a ledger that is open."""
    return await asyncio.to_thread(quarantine, directory, *arguments)


async def settle_all(open_book: Book, outcome: Outcome = Accepted()) -> list[MeterEvent]:  # noqa: B008
    """Freeze and answer until nothing is left."""
    done: list[MeterEvent] = []
    now = time.time()
    while events := [*await open_book.freeze(now), *await open_book.ledger.take_released(100)]:
        for event in events:
            await open_book.ledger.begin([event], now)
            await open_book.ledger.settle(event, outcome, now)
        done += events
    return done


async def refused(open_book: Book, quantity: int) -> UsageRecord:
    """A request of acme whose meter event Stripe has refused."""
    usage = record(at=_now(), quantity=quantity)
    await open_book.commit(batch(usage), time.time())
    (event,) = await open_book.freeze(time.time())
    await open_book.ledger.begin([event], time.time())
    await open_book.ledger.settle(event, Refused(Reason.REJECTED, "no"), time.time())
    return usage


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


async def test_a_person_decides_who_the_user_is(ledger: Path) -> None:
    """A request without a user is billed to the user that a person names; the same span is not billed again."""
    usage = record(None, reason=Reason.NO_USER, at=_now(), quantity=3)
    async with book(ledger) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(usage), time.time())
        release = ("release", "--reason", "no_user", "--as-user", "acme", "--yes")
        assert await run(ledger, *release) == 0
        assert await run(ledger, *release) == 0
        await open_book.commit(batch(usage, usage._replace(user="beta", reason=None)), time.time())
        (event,) = await settle_all(open_book)
        assert (event.customer, event.value) == ("cus_1", "3")
        assert open_book.standings() == {("acme", "billed", None): (1, "3")}
    nothing_is_wrong(ledger)


async def test_a_person_decides_the_quantity(
    ledger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request without a valid quantity counts what a person says, exactly; the command and the audit log say so."""
    usage = record(reason=Reason.BAD_QUANTITY, at=_now(), quantity=None)
    async with book(ledger) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(usage), time.time())
        assert await run(ledger, "release", "--user", "acme", "--quantity", "0.25", "--yes") == 0
        told = capsys.readouterr()
        assert "1 requests, quantity 0.25, in 1 entries: billed as decided" in told.err
        assert "released: 1 requests, quantity 0.25 (1 bad_quantity)" in told.out
        monkeypatch.setenv("COLUMNS", "1000")
        assert await asyncio.to_thread(main, ["ledger", "audit", "--config", str(configuration(ledger))]) == 0
        (line,) = [one for one in capsys.readouterr().out.splitlines() if "released" in one]
        assert "asked for quantity: 0.25" in line
        assert "->" not in line
        (event,) = await settle_all(open_book)
        assert event.value == "0.25"
    nothing_is_wrong(ledger)


async def test_what_lacks_a_decision_is_left_alone(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --as-user or --quantity such requests stay, and the output says what is needed."""
    async with book(ledger) as open_book:
        await open_book.commit(
            batch(
                record(None, reason=Reason.NO_USER, at=_now()),
                record(None, reason=Reason.NO_USER, at=_now(), quantity=None),
                record(reason=Reason.BAD_QUANTITY, at=_now(), quantity=None),
                record(at=_now() - 40 * DAY),
            ),
            time.time(),
        )
        assert await run(ledger, "release", "--yes") == 0
        told = capsys.readouterr().err
        for what in (
            "needs --as-user USER and --quantity N",
            "needs --as-user USER\n",
            "needs --quantity N\n",
            "too old",
        ):
            assert what in told
        assert sum(line.requests for line in open_book.usage() if line.standing == "quarantined") == 4


async def test_a_span_that_was_billed_under_another_event_name_is_not_released(ledger: Path) -> None:
    """The policy was mended and renamed its event, the span came again: releasing the old entry bills nothing."""
    usage = record(None, reason=Reason.NO_USER, at=_now())
    async with book(ledger) as open_book:
        open_book.meters["", "chat_request"] = Formula.SUM
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(usage), time.time())
        mended = usage._replace(user="acme", reason=None, terms=replace(CHAT, event_name="chat_request"))
        await open_book.commit(batch(mended), time.time())
        assert await run(ledger, "release", "--policy", "chat", "--as-user", "acme", "--yes") == 0
        (event,) = await settle_all(open_book)
        assert event.event_name == "chat_request"
    nothing_is_wrong(ledger)


async def test_releasing_races_with_the_same_spans(ledger: Path) -> None:
    """Spans that come again while they are released, by two commands at once, are billed once each."""
    usage = [record(None, reason=Reason.NO_USER, at=_now() + n % 50) for n in range(1_500)]
    async with book(ledger) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(*usage), time.time())

        async def send_again() -> None:
            for start in range(0, len(usage), 50):
                mended = [one._replace(user="acme", reason=None) for one in reversed(usage[start : start + 50])]
                await open_book.commit(batch(*mended), time.time())

        release = ("release", "--reason", "no_user", "--as-user", "acme", "--yes")
        await asyncio.gather(send_again(), run(ledger, *release), run(ledger, *release))
        events = await settle_all(open_book)
        assert sum(int(event.value) for event in events) == 1_500
        assert open_book.standings() == {("acme", "billed", None): (1_500, "1500")}
    nothing_is_wrong(ledger)


async def test_a_refused_event_is_sent_again_under_another_identifier(ledger: Path) -> None:
    """What Stripe has refused is sent once more when it is released, once however often that is asked for."""
    async with book(ledger) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await refused(open_book, quantity=5)
        assert await settle_all(open_book) == []
        assert await run(ledger, "release", "--reason", "rejected", "--yes") == 0
        assert await run(ledger, "release", "--reason", "rejected", "--yes") == 0
        (event,) = await settle_all(open_book)
        assert (event.value, event.identifier[-3:]) == ("5", "_r1")
    nothing_is_wrong(ledger)


@pytest.mark.parametrize("one_by_one", [False, True])
async def test_an_event_of_a_customer_that_is_gone_is_given_to_the_one_that_is_there(
    ledger: Path, one_by_one: bool
) -> None:
    """Where the customer is what was wrong, it is looked up again when the event is released."""
    async with book(ledger, window=1 if one_by_one else 10) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        usage = [record(at=_now(), quantity=2), record(at=_now(), quantity=3)]
        await open_book.commit(batch(*usage), time.time())
        events = await open_book.freeze(time.time(), one_by_one=one_by_one)
        for event in events:
            await open_book.ledger.begin([event], time.time())
            missing = Refused(Reason.REJECTED, "gone", "meter_event_customer_not_found")
            await open_book.ledger.settle(event, missing, time.time())
        changes = [CustomerChange("cus_1", None), CustomerChange("cus_2", {"account_id": "acme"})]
        await open_book.ledger.apply_customers("", ["account_id"], changes, 2)
        assert await run(ledger, "release", "--customer", "cus_1", "--yes") == 0
        again = await settle_all(open_book)
        assert {event.customer for event in again} == {"cus_2"}
        assert sum(int(event.value) for event in again) == 5
        assert open_book.standings() == {("acme", "billed", None): (2, "5")}
    nothing_is_wrong(ledger)


async def test_a_part_of_an_amount_is_sent_again_by_itself(ledger: Path) -> None:
    """Of an amount that was told in parts only the refused one is sent again."""
    async with book(ledger) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=_now(), quantity=123_456_789_012_345_678)), time.time())
        first, second = await open_book.freeze(time.time())
        for event, outcome in ((first, Accepted()), (second, Refused(Reason.NO_CUSTOMER, "gone"))):
            await open_book.ledger.begin([event], time.time())
            await open_book.ledger.settle(event, outcome, time.time())
        assert await run(ledger, "release", "--yes") == 0
        (again,) = await settle_all(open_book)
        assert (again.value, again.customer) == (second.value, "cus_1")
        assert open_book.standings() == {("acme", "billed", None): (1, "123456789012345678")}
    nothing_is_wrong(ledger)


async def test_held_windows_are_decided_about_again(ledger: Path) -> None:
    """A released window is held again as long as nothing has changed, and billed when it has."""
    async with book(ledger) as open_book:
        await open_book.list_customers({})
        await open_book.commit(batch(record(at=_now(), quantity=4)), time.time())
        assert await settle_all(open_book) == []
        assert await run(ledger, "release", "--reason", "no_customer", "--yes") == 0
        assert open_book.standings() == {("acme", "collecting", None): (1, "4")}
        assert await settle_all(open_book) == []
        assert open_book.standings() == {("acme", "quarantined", "no_customer"): (1, "4")}
        await open_book.list_customers({"acme": "cus_1"})
        (event,) = await settle_all(open_book)
        assert event.value == "4"
    nothing_is_wrong(ledger)


async def test_a_release_beside_a_window_that_collects(ledger: Path) -> None:
    """A request is released into a moment whose window is open: nothing is in two windows, by whatever meter."""
    at = int(time.time()) // 60 * 60 - 60
    async with book(ledger, window=10) as open_book:
        open_book.meters[METER] = Formula.COUNT
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=at + 1), record(None, reason=Reason.NO_USER, at=at + 2)), time.time())
        assert await run(ledger, "release", "--policy", "chat", "--as-user", "acme", "--yes") == 0
        await open_book.commit(batch(record(at=at + 3)), time.time())
        assert len(await settle_all(open_book)) == 3
        assert open_book.standings() == {("acme", "billed", None): (3, "3")}
    nothing_is_wrong(ledger)


async def test_what_is_discarded_is_never_billed(ledger: Path) -> None:
    """Requests, windows and events that were discarded stay so, also when their spans come again."""
    nobody, stranger = record(None, reason=Reason.NO_USER, at=_now()), record("stranger", at=_now(), quantity=2)
    async with book(ledger) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        rejected = await refused(open_book, quantity=4)
        await open_book.commit(batch(nobody, stranger), time.time())
        assert await settle_all(open_book) == []
        for _ in range(2):
            assert await run(ledger, "discard", "--all", "--because", "a test", "--yes") == 0
        mended = nobody._replace(user="acme", reason=None)
        await open_book.commit(batch(mended, stranger, rejected), time.time())
        await open_book.list_customers({"acme": "cus_1", "stranger": "cus_2"}, 2)
        assert await run(ledger, "release", "--yes") == 0
        assert await settle_all(open_book) == []
    nothing_is_wrong(ledger)
    connection = open_for_reading(ledger)
    decided = [entry for entry in audit.entries(connection) if entry.action == "discarded"]
    assert all(entry.why == "a test" and "@" in entry.actor for entry in decided)
    told = [json.loads(entry.after) for entry in decided]
    assert sum(one["requests"] for one in told) == 3
    assert sum(int(one["quantity"]) for one in told) == 7
    connection.close()


async def test_only_what_is_meant_is_discarded(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A window that also holds requests of another policy or trace is left alone, and that is said."""
    other = replace(CHAT, policy="other")
    mine = record("stranger", at=_now())
    async with book(ledger) as open_book:
        await open_book.list_customers({})
        await open_book.commit(batch(mine, record("stranger", at=_now(), terms=other)), time.time())
        await settle_all(open_book)
        for filters in (("--policy", "chat"), ("--trace", mine.trace_id.hex())):
            assert await run(ledger, "discard", *filters, "--because", "a test", "--yes") == 0
            assert "holds other requests, too" in capsys.readouterr().err
        assert open_book.standings() == {("stranger", "quarantined", "no_customer"): (2, "2")}


async def test_without_a_terminal_a_decision_must_be_written_out(
    ledger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No --yes, no --because, no filter: an error that says what to add, and nothing changes."""
    async with book(ledger) as open_book:
        await open_book.commit(batch(record(None, reason=Reason.NO_USER, at=_now())), time.time())
        before = open_book.standings()
        for arguments, says in (
            (("release", "--reason", "no_user", "--as-user", "acme"), "add --yes"),
            (("release", "--as-user", "acme", "--yes"), "say which usage is meant"),
            (("release", "--reason", "no_user", "--quantity", "-1"), "no quantity"),
            (("discard", "--because", "x", "--yes"), "--all"),
            (("discard", "--all", "--reason", "no_user", "--because", "x"), "not both"),
            (("discard", "--all", "--yes"), "--because"),
            (("discard", "--all", "--because", " ", "--yes"), "without a reason"),
            (("list", "--trace", "12"), "no trace id"),
        ):
            assert await run(ledger, *arguments) == 1
            assert says in capsys.readouterr().err
        assert open_book.standings() == before
