"""What the Stripe double of a measurement has accepted, and what the ledger says is still to come."""

import asyncio
import json
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

_PAGE = 20_000
_LEFT = """
SELECT (SELECT count(*) FROM open_windows) + (SELECT count(*) FROM meter_events WHERE state IN (0, 1))
"""


def accepted(url: str) -> Iterator[dict[str, Any]]:
    """Every meter event that was accepted: `identifier`, `value`, `received` in unix seconds, and more."""
    first = 0
    while True:
        with urllib.request.urlopen(f"{url}/_double/accepted?from={first}&limit={_PAGE}", timeout=60) as answer:
            page = json.load(answer)["data"]
        yield from page
        first += len(page)
        if not page:
            return


def opened(ledger: Path) -> closing[sqlite3.Connection]:
    """The file of a ledger that a service writes, to read it."""
    return closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True))


def left(ledger: Path) -> int:
    """Windows that are open, and meter events without an answer. Held usage does not count."""
    with opened(ledger) as connection:
        return int(connection.execute(_LEFT).fetchone()[0])


async def sent(ledger: Path, patience: float) -> bool:
    """Wait until nothing is left to be sent; say whether it came to that within so many seconds."""
    until = time.monotonic() + patience
    while await asyncio.to_thread(left, ledger):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.5)
    return True
