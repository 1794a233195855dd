"""Users that the ledger knows by number, all of whom may send requests again."""

from pathlib import Path

from throughput.customers import BOOK
from throughput.spans import EVENT_NAME, FIELD, user

from growth.curve import Curve
from otel_usageflow.extensions.sqlite_storage.file import open_for_writing
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.model.usage import Terms

_TERMS = Terms("chat", EVENT_NAME, FIELD)
_CHUNK = 10_000


def prepare(directory: Path, size: int) -> None:
    """A series for each, as if each had sent something once."""
    directory.mkdir(parents=True)
    connection = open_for_writing(directory)
    connection.execute("PRAGMA synchronous = OFF")
    names = Names(BOOK)
    meter = names.meter(connection, "", EVENT_NAME)
    for first in range(1, size + 1, _CHUNK):
        connection.execute("BEGIN IMMEDIATE")
        some = [user(number) for number in range(first, min(first + _CHUNK, size + 1))]
        names.meet(connection, meter, _TERMS, some, ())
        connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


CURVE = Curve(
    "users",
    (100, 10_000, 100_000, 1_000_000),
    (10_000_000,),
    prepare,
    users=lambda size: size,
    customers=lambda size: min(size, 1_000),
    pool=100_000,
)
