"""Pruning at a time that the test names, and the proof that the ledger still holds."""

from contextlib import closing
from pathlib import Path

from ledgers import Book

from otel_usageflow.extensions.sqlite_storage.file import LEDGER, open_for_reading
from otel_usageflow.extensions.sqlite_storage.proof.verify import verify
from otel_usageflow.extensions.sqlite_storage.reading.trace_index import Indexed
from otel_usageflow.extensions.sqlite_storage.upkeep.rounds import Upkeep
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.model.clock import SteadyClock


class TestClock:
    """A wall clock and the time that has really passed, in seconds."""

    __test__ = False

    def __init__(self, wall: float) -> None:
        self.wall = wall
        self.passed = 0.0
        self.clock = SteadyClock(lambda: int(self.wall * 10**9), lambda: int(self.passed * 10**9))


def upkeep(open_book: Book, clock: TestClock, retention: float = 35 * DAY, totals: float = 400 * DAY) -> Upkeep:
    """The background work of a ledger, to be done when the test says so."""
    writer = open_book.storage._writer
    return Upkeep(writer, open_book.directory, Indexed(), clock.clock, retention, totals)


async def prune(open_book: Book, now: float, retention: float = 35 * DAY, totals: float = 400 * DAY) -> bool:
    """Do what a just started service does whose clock says `now`, in the place of the ledger's own work."""
    await open_book.storage._upkeep.stop()
    return await upkeep(open_book, TestClock(now), retention, totals).prune()


def problems(directory: Path) -> list[str]:
    """What `ledger verify` finds."""
    with closing(open_for_reading(directory)) as connection:
        found = verify(connection, directory / LEDGER, None, lambda *_: None)
    return [str(one) for one in found.findings]


def pruned_to(directory: Path) -> int:
    """The moment before which requests may be gone."""
    with closing(open_for_reading(directory)) as connection:
        return int(connection.execute("SELECT pruned_to FROM ledger").fetchone()[0])
