"""What a service does by itself as usage comes in: the index of traces, the seals of the audit log, and comparing its
meter events with Stripe's sums, once a day.

A ledger that was built in bulk has none of it, and a service would spend its first minutes on catching up, which is
not what grows.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from big_ledger import index
from throughput.customers import BOOK

from otel_usageflow.extensions.sqlite_storage.doubt import reconcile
from otel_usageflow.extensions.sqlite_storage.file import open_for_writing
from otel_usageflow.extensions.sqlite_storage.proof import seal


def catch_up(directory: Path) -> None:
    """Leave nothing of it to be done now."""
    index(directory)
    with closing(open_for_writing(directory)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        _compared(connection, time.time())
        connection.execute("COMMIT")
        while (sealing := seal.due(connection, time.time())) is not None:
            connection.execute("BEGIN IMMEDIATE")
            seal.write(connection, sealing, time.time())
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _compared(connection: sqlite3.Connection, now: float) -> None:
    """One pair was compared just now, so that the next round is a day away."""
    for pair in reconcile.next_pairs(connection, BOOK, 0, int(now), 1):
        reconcile.note(connection, BOOK, pair, now, 0, int(now), 0)
