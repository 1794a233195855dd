"""How long traces are kept, and what backups and recoveries make of what waits for spans."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from billing import CHAT
from ledgers import Book, book
from pruning import TestClock, problems, prune, upkeep
from traces import NOW, SECOND, TOKENS, request, settle_traces, span, trace_batch

from otel_usageflow.extensions.sqlite_storage.file import LEDGER
from otel_usageflow.extensions.sqlite_storage.upkeep.maintenance import back_up, recover
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.model.outcome import Accepted

TERMS = replace(CHAT, quantity=None)
TABLES = ("traces", "trace_spans", "trace_requests", "trace_parts")


def trace_of(number: int) -> bytes:
    """A trace id."""
    return number.to_bytes(16, "big")


def rows(directory: Path) -> dict[str, int]:
    """How many rows the tables of traces have."""
    with closing(sqlite3.connect(directory / LEDGER)) as connection:
        return {table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in TABLES}


async def bill(opened: Book, number: int, at: int, *, user: str = "acme", tokens: int | None = 7) -> None:
    """A request with one span below it, billed when its wait is over."""
    ended, trace = at * SECOND, trace_of(number)
    await opened.commit(
        trace_batch(
            span(1, 90, entry=True, trace=trace, ended_ns=ended),
            span(2, 1, tokens=tokens, trace=trace, ended_ns=ended),
            request(1, user=user, terms=TERMS, trace=trace, ended_ns=ended),
        ),
        at,
    )
    await settle_traces(opened, at + 5)


async def send(opened: Book, now: float) -> None:
    """Stripe takes everything."""
    while events := await opened.freeze(now):
        await opened.ledger.begin(events, now)
        for event in events:
            await opened.ledger.settle(event, Accepted(), now)


async def test_a_trace_that_nobody_asked_for_is_given_up_after_a_day(tmp_path: Path) -> None:
    """Its numbers are counted; a trace with a request stays, and so does one of today."""
    async with book(tmp_path) as opened:
        await opened.commit(trace_batch(span(1, trace=trace_of(1)), span(2, 1, tokens=5, trace=trace_of(1))), NOW)
        await bill(opened, 2, NOW)
        await opened.commit(trace_batch(span(2, 1, tokens=5, trace=trace_of(3))), NOW + 10)
        background = opened.storage.upkeep
        background._clock = TestClock(NOW + DAY + 5).clock
        assert await background.give_up_traces() == 1
        assert rows(tmp_path) == {"traces": 2, "trace_spans": 3, "trace_requests": 1, "trace_parts": 1}
        assert (await opened.ledger.waiting_traces()).given_up == 1
        assert problems(tmp_path) == []


async def test_a_clock_that_was_set_gives_nothing_up(tmp_path: Path) -> None:
    """A day that has not passed makes no trace old."""
    async with book(tmp_path) as opened:
        await opened.commit(trace_batch(span(2, 1, tokens=5)), NOW)
        clock = TestClock(NOW)
        background = upkeep(opened, clock)
        clock.wall += 2 * DAY
        assert await background.give_up_traces() == 0
        assert rows(tmp_path)["trace_spans"] == 1


async def test_traces_go_with_their_usage(tmp_path: Path) -> None:
    """What is settled and old goes as a whole; what is in quarantine, or unanswered, stays with its trace."""
    async with book(tmp_path) as opened:
        await opened.list_customers({"acme": "cus_1"})
        await bill(opened, 1, NOW)
        await bill(opened, 2, NOW, tokens=None)
        await send(opened, NOW + 100)
        await bill(opened, 3, NOW + 10 * DAY)
        await send(opened, NOW + 10 * DAY + 100)
        await opened.commit(trace_batch(span(3, 1, tokens=1, trace=trace_of(3))), NOW + 10 * DAY + 200)
        assert await prune(opened, NOW + 15 * DAY, retention=2 * DAY)
        with closing(sqlite3.connect(tmp_path / LEDGER)) as connection:
            kept = connection.execute("SELECT trace_id FROM traces ORDER BY trace_no").fetchall()
        assert kept == [(trace_of(2),), (trace_of(3),)]
        assert rows(tmp_path) == {"traces": 2, "trace_spans": 5, "trace_requests": 2, "trace_parts": 1}
        assert problems(tmp_path) == []


async def test_a_span_of_pruned_time_is_not_billed_again(tmp_path: Path) -> None:
    """Its trace is gone, so it would not be recognised: it is too old."""
    async with book(tmp_path) as opened:
        await opened.list_customers({"acme": "cus_1"})
        await bill(opened, 1, NOW)
        await send(opened, NOW + 100)
        await bill(opened, 3, NOW + 10 * DAY)
        assert await prune(opened, NOW + 10 * DAY + 100, retention=2 * DAY)
        await opened.commit(
            trace_batch(
                span(1, 90, entry=True, trace=trace_of(1)),
                span(2, 1, tokens=7, trace=trace_of(1)),
                request(1, terms=TERMS, trace=trace_of(1)),
            ),
            NOW + 10 * DAY,
        )
        await settle_traces(opened, NOW + 10 * DAY + 5)
        assert opened.standings()["acme", "quarantined", "too_old"] == (1, "7")


async def test_what_waited_in_a_copy_is_perhaps_sent(tmp_path: Path) -> None:
    """The original has settled and sent it meanwhile, so the copy does not send it on its own account."""
    async with book(tmp_path) as opened:
        await opened.list_customers({"acme": "cus_1"})
        await opened.commit(trace_batch(span(1, 90, entry=True), span(2, 1, tokens=7), request(1, terms=TERMS)), NOW)
        back_up(tmp_path, tmp_path / "copy.db", lambda *_: None)
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copy(tmp_path / "copy.db", restored / LEDGER)
    assert problems(restored) == []
    async with book(restored) as opened:
        assert (await opened.ledger.waiting_traces()).requests == 0
        assert await opened.freeze(NOW + 100) == []
        assert opened.standings() == {("acme", "unknown", None): (1, "7")}


async def test_numbers_of_lost_traces_are_not_given_again(tmp_path: Path) -> None:
    """After a recovery the spans of a trace that lost its row are in no other trace; a request brings it back."""
    async with book(tmp_path) as opened:
        await opened.list_customers({"acme": "cus_1"})
        await bill(opened, 1, NOW)
        await opened.commit(trace_batch(span(2, 1, tokens=99, trace=trace_of(2))), NOW)
    with closing(sqlite3.connect(tmp_path / LEDGER)) as connection:
        connection.execute("DELETE FROM traces")
        connection.commit()
    assert [one for one in problems(tmp_path) if "trace that is not known" in one]
    (tmp_path / "new").mkdir()
    recover(tmp_path / LEDGER, tmp_path / "new" / LEDGER, lambda *_: None)
    assert rows(tmp_path / "new") == {"traces": 1, "trace_spans": 2, "trace_requests": 1, "trace_parts": 1}
    async with book(tmp_path / "new") as opened:
        await bill(opened, 3, NOW)
        assert opened.standings()["acme", "collecting", None] == (2, "14")
        assert problems(tmp_path / "new") == []


async def test_a_sum_of_spans_that_are_not_there_is_found(tmp_path: Path) -> None:
    """`ledger verify` looks at what quantities were summed from."""
    async with book(tmp_path) as opened:
        await bill(opened, 1, NOW)
    assert problems(tmp_path) == []
    with closing(sqlite3.connect(tmp_path / LEDGER)) as connection:
        connection.execute("DELETE FROM trace_spans WHERE amounts LIKE ?", (f"%{TOKENS}%",))
        connection.commit()
    assert [one for one in problems(tmp_path) if "spans that are not there" in one]
