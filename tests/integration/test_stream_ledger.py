"""What the ledger keeps of calls of the stream: which events went in which call, in whatever state they are."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from billing import batch, record
from ledgers import Book, book
from looking_back import rows, states
from pruning import problems, prune

from otel_usageflow.extensions.sqlite_storage.file import open_for_commands, transaction
from otel_usageflow.extensions.sqlite_storage.flow.batches import sent_with
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.identifier import batch_of
from otel_usageflow.ledger.states import IllegalStep
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Refused, Retry
from otel_usageflow.model.usage import Reason

NOON = 1_700_000_000 - 1_700_000_000 % 60


async def _frozen(open_book: Book, users: int) -> list[MeterEvent]:
    await open_book.list_customers({f"u{n}": f"cus_{n}" for n in range(users)})
    await open_book.commit(batch(*(record(f"u{n}", at=NOON) for n in range(users))), NOON)
    return await open_book.freeze(NOON + 10)


async def test_a_batch_is_on_the_disk_before_it_is_sent(tmp_path: Path) -> None:
    """Key and events of each call are written with the attempt, and found again after a restart."""
    async with book(tmp_path) as open_book:
        frozen = await _frozen(open_book, 3)
        first, second = await open_book.ledger.begin_batches([frozen[:2], frozen[2:]], NOON + 11)
        assert (batch_of(first), batch_of(second)) == (1, 2)
        assert first.split("_")[2] != second.split("_")[2]
    async with book(tmp_path) as open_book:
        loaded = await open_book.ledger.unsettled(0, 10)
    assert [(one.batch, one.attempts, one.uncertain) for one in loaded] == [(1, 1, True), (1, 1, True), (2, 1, True)]
    assert [json.loads(str(text)) for (text,) in rows(tmp_path, "SELECT events FROM stream_batches")] == [[1, 2], [3]]


async def test_each_event_of_a_call_has_its_own_outcome(tmp_path: Path) -> None:
    """They are written together, and differ where they differ."""
    async with book(tmp_path) as open_book:
        frozen = await _frozen(open_book, 3)
        await open_book.ledger.begin_batches([frozen], NOON + 11)
        outcomes = [Accepted("req_1"), Retry("again"), Refused(Reason.REJECTED, "no")]
        await open_book.ledger.settle_batch(list(zip(frozen, outcomes, strict=True)), NOON + 12)
        assert states(tmp_path) == ["ACCEPTED", "FROZEN", "REFUSED"]


async def test_a_call_of_its_own_takes_an_event_out_of_its_batch(tmp_path: Path) -> None:
    """The ledger knows by which way an event went last."""
    async with book(tmp_path) as open_book:
        frozen = await _frozen(open_book, 2)
        await open_book.ledger.begin_batches([frozen], NOON + 11)
        await open_book.ledger.settle_batch([(one, Retry("again")) for one in frozen], NOON + 12)
        await open_book.ledger.begin(frozen[:1], NOON + 13)
        assert rows(tmp_path, "SELECT batch, attempts FROM meter_events ORDER BY event_id") == [(0, 2), (1, 1)]


async def test_an_event_with_an_answer_is_in_no_further_call(tmp_path: Path) -> None:
    """A batch with an event that may not begin is not begun at all: nothing of it is written."""
    async with book(tmp_path) as open_book:
        frozen = await _frozen(open_book, 2)
        await open_book.ledger.begin(frozen[:1], NOON + 11)
        await open_book.ledger.settle(frozen[0], Accepted("req_1"), NOON + 12)
        with pytest.raises(IllegalStep):
            await open_book.ledger.begin_batches([frozen], NOON + 13)
        assert states(tmp_path) == ["ACCEPTED", "FROZEN"]
        assert rows(tmp_path, "SELECT count(*) FROM stream_batches") == [(0,)]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE stream_batches SET events = '[1, 3]' WHERE batch_id = 1",
        "UPDATE stream_batches SET token = '0000000000000000' WHERE batch_id = 1",
        "UPDATE meter_events SET batch = 1 WHERE event_id = 3",
        "UPDATE meter_events SET batch = 99 WHERE event_id = 3",
        "UPDATE meter_events SET batch = 1 WHERE event_id = 5",
        "UPDATE meter_events SET batch = 0 WHERE event_id = 3",
        "UPDATE meter_events SET batch = 2 WHERE event_id = 2",
        "DELETE FROM stream_batches WHERE batch_id = 2",
    ],
)
async def test_a_changed_call_is_found(tmp_path: Path, change: str) -> None:
    """`ledger verify` tells of calls that are not as they were written; a report names nobody by such a call."""
    async with book(tmp_path) as open_book:
        frozen = await _frozen(open_book, 6)
        keys = await open_book.ledger.begin_batches([frozen[:2], frozen[2:4]], NOON + 11)
        await open_book.ledger.begin(frozen[4:5], NOON + 11)
        await open_book.ledger.begin_batches([frozen[:1]], NOON + 12)
    assert problems(tmp_path) == []
    with closing(open_for_commands(tmp_path)) as connection, transaction(connection):
        connection.execute(change)
        if "stream_batches" in change:
            assert None in (sent_with(connection, keys[0]), sent_with(connection, keys[1]))
    assert problems(tmp_path)


async def test_calls_are_forgotten_with_the_usage_that_was_in_them(tmp_path: Path) -> None:
    """After the time for which usage is kept no report comes about a call, and what is left still verifies."""
    async with book(tmp_path) as open_book:
        frozen = await _frozen(open_book, 3)
        await open_book.ledger.begin_batches([frozen], NOON + 11)
        await open_book.ledger.settle_batch([(one, Accepted("")) for one in frozen], NOON + 12)
        await open_book.commit(batch(record("u0", at=NOON + 10 * DAY)), NOON + 10 * DAY)
        assert await prune(open_book, NOON + 10 * DAY, retention=2 * DAY)
        assert rows(tmp_path, "SELECT count(*) FROM stream_batches") == [(0,)]
    assert problems(tmp_path) == []
