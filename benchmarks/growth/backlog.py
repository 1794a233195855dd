"""Meter events that are frozen and were never sent, of customers who go on sending requests."""

import time
from pathlib import Path

from drain_ledger import build
from throughput.customers import BOOK, customers

from growth.curve import Curve

_CUSTOMERS = 10_000


def prepare(directory: Path, size: int) -> None:
    """Older than ten minutes; it is sent while the load goes on, slowly."""
    ids = [identity for _, identity in customers(_CUSTOMERS)]
    build(directory, size, ids, frozen=True, end=int(time.time()) - 600, book=BOOK)


CURVE = Curve("backlog", (0, 10_000, 100_000, 1_000_000), prepare=prepare, customers=lambda _size: _CUSTOMERS)
