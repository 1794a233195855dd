"""What the screen shows of the ledger: how far usage has come, and what waits."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from otel_usageflow.errors import StorageError
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.report import Standing, UsageLine


@dataclass(frozen=True, slots=True)
class LedgerView:
    """Usage records in the ledger, counted."""

    records: int = 0
    billed: int = 0
    quarantined: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(reason, user) -> records; the user is empty when none was found."""
    users: int = 0
    """Different users that were found."""

    @property
    def under_way(self) -> int:
        """Neither billed nor in quarantine yet."""
        return self.records - self.billed - self.quarantined.total()

    @property
    def reasons(self) -> Counter[str]:
        """Reason -> records."""
        counts: Counter[str] = Counter()
        for (reason, _user), count in self.quarantined.items():
            counts[reason] += count
        return counts


def view(lines: list[UsageLine]) -> LedgerView:
    """Count the lines of a report."""
    quarantined: Counter[tuple[str, str]] = Counter()
    for line in lines:
        if line.standing is Standing.QUARANTINED:
            quarantined[line.reason or "", line.user] += line.requests
    return LedgerView(
        records=sum(line.requests for line in lines),
        billed=sum(line.requests for line in lines if line.standing is Standing.BILLED),
        quarantined=quarantined,
        users=len({(line.metadata_field, line.user) for line in lines if line.user}),
    )


def look(directory: Path) -> LedgerView | None:
    """The ledger as it is now, or None while it cannot be read, as in the moment in which it is made."""
    try:
        with open_reader(directory) as reader:
            return view(reader.usage(None, None))
    except StorageError:
        return None
