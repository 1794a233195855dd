"""What a service does by itself as usage comes in: the index of traces and the seals of the audit log.

A ledger that was built in bulk has none, and a service would spend its first minutes on catching up, which is not
what grows.
"""

import time
from contextlib import closing
from pathlib import Path

from big_ledger import index

from otel_usageflow.extensions.sqlite_storage.file import open_for_writing
from otel_usageflow.extensions.sqlite_storage.proof import seal


def catch_up(directory: Path) -> None:
    """Leave nothing of it to be done."""
    index(directory)
    with closing(open_for_writing(directory)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        while (sealing := seal.due(connection, time.time())) is not None:
            connection.execute("BEGIN IMMEDIATE")
            seal.write(connection, sealing, time.time())
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
