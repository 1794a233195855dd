"""Records in the ledger: 35 days of them, all of them billed, with their index of traces."""

import time
from pathlib import Path

from big_ledger import build
from throughput.customers import BOOK

from growth.curve import Curve
from otel_usageflow.ledger.charge import DAY


def prepare(directory: Path, size: int) -> None:
    """Up to the end of yesterday."""
    build(directory, size, int(time.time()) // DAY * DAY, BOOK)


CURVE = Curve("records", (1_000_000, 5_000_000, 20_000_000), (100_000_000,), prepare)
