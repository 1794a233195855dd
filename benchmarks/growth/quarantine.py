"""Charges in quarantine: requests of the last ten days that name no user."""

import asyncio
import os
import time
from pathlib import Path

from throughput.spans import EVENT_NAME, FIELD

from growth.curve import Curve
from growth.storage import ledger
from otel_usageflow.model.usage import Reason, Terms, UsageBatch, UsageRecord

_CHUNK = 5_000
_SECONDS = 10 * 86_400
_TERMS = Terms("chat", EVENT_NAME, FIELD)
_SEEN = ("http.request.method", "http.response.status_code", "http.route")


def prepare(directory: Path, size: int) -> None:
    """Taken like any usage."""
    asyncio.run(_take(directory, size))


async def _take(directory: Path, size: int) -> None:
    now = time.time()
    first = int((now - _SECONDS) * 1e9)
    async with ledger(directory) as book:
        for low in range(0, size, _CHUNK):
            moments = [first + number * _SECONDS * 10**9 // size for number in range(low, min(low + _CHUNK, size))]
            await book.commit(UsageBatch(records=[_record(moment) for moment in moments]), now)


def _record(at: int) -> UsageRecord:
    return UsageRecord(
        os.urandom(16), os.urandom(8), at, at, _TERMS, None, None, 1, reason=Reason.NO_USER, seen=_SEEN
    )


CURVE = Curve("quarantine", (0, 10_000, 100_000, 1_000_000), prepare=prepare)
