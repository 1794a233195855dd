"""Releases, discards and refiling are killed between any two steps: nothing is lost, nothing is done twice."""

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from billing import CHAT, batch, record
from ledger_config import configuration
from ledgers import book
from quarantine_command import nothing_is_wrong, quarantine

from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.model.crash_point import RELEASE_POINTS
from otel_usageflow.model.outcome import Accepted
from otel_usageflow.model.usage import Reason

_REFILE = """
import asyncio, sys, time
from dataclasses import replace
from pathlib import Path
from billing import CHAT
from ledgers import book

async def main():
    async with book(Path(sys.argv[1])) as open_book:
        mended = replace(CHAT, event_name="chat_request")
        await open_book.ledger.releases.refile([mended], time.time())

asyncio.run(main())
"""


async def _killed(point: str, ledger: Path) -> None:
    """Run what reaches a point, and let it be killed there."""
    action = point.partition(":")[0]
    if action == "refile":
        command = ["-c", _REFILE, str(ledger)]
    else:
        decided = ["--as-user", "acme"] if action == "release" else ["--because", "a test"]
        which = ["--policy", "chat", "--yes", *decided]
        command = ["-m", "otel_usageflow", "quarantine", action, "--config", str(configuration(ledger)), *which]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env={
            **os.environ,
            "OTEL_USAGEFLOW_DIE_AT": f"{point}#2",
            "PYTHONPATH": str(Path(__file__).parents[1] / "support"),
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(60):
        assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("point", RELEASE_POINTS)
async def test_death_in_the_middle(tmp_path: Path, point: str) -> None:
    """Killed at the second step; what comes after it does the rest, and each request is billed, or not, once."""
    ledger, now = tmp_path / "ledger", time.time()
    action = point.partition(":")[0]
    unknown = [record(None, reason=Reason.NO_USER, at=now // 60 * 60 - 120 + n % 60) for n in range(700)]
    waiting = [record("acme", at=now // 60 * 60 - 200 + n % 60, payload=(("n", str(n % 9)),)) for n in range(180)]
    async with book(ledger) as open_book:
        await open_book.list_customers({})
        await open_book.commit(batch(*(waiting if action == "refile" else unknown)), now)
        assert await open_book.freeze(now) == []
    await _killed(point, ledger)
    nothing_is_wrong(ledger)
    if action != "refile":
        decided = ("--as-user", "acme") if action == "release" else ("--because", "a test")
        assert await asyncio.to_thread(quarantine, ledger, action, "--policy", "chat", "--yes", *decided) == 0
    async with book(ledger) as open_book:
        if action == "refile":
            mended = replace(CHAT, event_name="chat_request")
            open_book.meters["", "chat_request"] = Formula.SUM
            assert 0 < await open_book.ledger.releases.refile([mended], time.time()) < 180
        await open_book.list_customers({"acme": "cus_1"}, 2)
        again = [one._replace(user="acme", reason=None) for one in unknown]
        await open_book.commit(batch(*(waiting if action == "refile" else again)), time.time())
        billed = 0
        while events := await open_book.freeze(time.time()):
            for event in events:
                await open_book.ledger.begin([event], now)
                await open_book.ledger.settle(event, Accepted(), now)
                billed += int(event.value)
        assert billed == {"release": 700, "discard": 0, "refile": 180}[action]
    nothing_is_wrong(ledger)
