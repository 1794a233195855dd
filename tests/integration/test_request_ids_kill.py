"""Killed while requests are told by several spans: then each is billed once all the same, and nobody kept aside."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from billing import batch, record
from ledgers import book
from quarantine_command import nothing_is_wrong

from otel_usageflow.model.outcome import Accepted
from otel_usageflow.model.usage import Reason, UsageRecord

NOON = 1_700_000_000 - 1_700_000_000 % 60
REQUESTS = 60

_TAKE = """
import asyncio, sys
from pathlib import Path
from ledgers import book
from test_request_ids_kill import LATER, batches, batch

async def main():
    async with book(Path(sys.argv[1])) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        for some in batches():
            await open_book.commit(batch(*some), LATER)
            await open_book.freeze(LATER)

asyncio.run(main())
"""
LATER = NOON + 600.0


def spans(number: int) -> list[UsageRecord]:
    """A request as a proxy without a user, the application, and the application once more, as after a retry."""
    request_id = number.to_bytes(16, "big")
    told = [(None, 2), ("acme", 1), ("acme", 0)]
    return [
        record(
            user,
            at=NOON + number % 50 + after,
            number=1_000 * number + place,
            reason=Reason.NO_USER if user is None else None,
        )._replace(request_id=request_id)
        for place, (user, after) in enumerate(told, 1)
    ]


def batches() -> list[list[UsageRecord]]:
    """All of them, mixed: the spans of a request are in three batches."""
    everything = [spans(number) for number in range(1, REQUESTS + 1)]
    return [[one[place] for one in everything[start::10]] for place in (0, 1, 2) for start in range(10)]


@pytest.mark.parametrize(
    "point", ["commit: written#15", "commit: durable#15", "commit: written#25", "freeze: written#5"]
)
async def test_death_in_the_middle(tmp_path: Path, point: str) -> None:
    """Whatever was committed, the client sends everything once more: each request is billed once."""
    here = Path(__file__).parent
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _TAKE,
        str(tmp_path),
        env={
            **os.environ,
            "OTEL_USAGEFLOW_DIE_AT": point,
            "PYTHONPATH": os.pathsep.join(map(str, (here, here.parent / "support"))),
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(60):
        assert await process.wait() == -signal.SIGKILL
    nothing_is_wrong(tmp_path)
    billed = 0
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"}, 2)
        for some in batches():
            await open_book.commit(batch(*some), LATER)
        events = [*await open_book.ledger.unsettled(0, 1_000)]
        for _ in range(3):
            events += await open_book.freeze(LATER)
        for event in events:
            await open_book.ledger.begin([event], LATER)
            await open_book.ledger.settle(event, Accepted(), LATER)
            billed += int(event.value)
        assert billed == REQUESTS
        assert list(open_book.standings()) == [("acme", "billed", None)]
    nothing_is_wrong(tmp_path)
