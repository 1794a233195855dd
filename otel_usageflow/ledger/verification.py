"""What a verification of a ledger says: findings, each with what to do, and the head of the audit log to note."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

SHOWN = 100
"""Findings of one check that are told; of further ones only the number."""

Progress = Callable[[str, int, int], None]
"""Called with what is being looked at, how far it is, and how far it can get (0: unknown)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be."""

    check: str
    """`file`, `shape`, `audit`, `seals`, `conservation` or `totals`."""
    where: str
    """What it is about, for example `meter event 12`."""
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry of the audit log: noted elsewhere, it proves later that nothing before it was changed."""

    entry: int
    hash: str
    """Hexadecimal."""

    def __str__(self) -> str:
        return f"{self.entry}:{self.hash}"


@dataclass(slots=True)
class Verification:
    """The outcome."""

    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """Check -> findings, also those over `SHOWN`."""
    looked_at: Counter[str] = field(default_factory=Counter)
    """What was looked at: records, windows, meter_events, seals, audit_entries."""
    remarks: list[str] = field(default_factory=list)
    """What could not be checked, and why that is no finding."""
    head: Head | None = None

    def find(self, check: str, where: str, problem: str, remedy: str) -> None:
        """Take a finding down."""
        self.counts[check] += 1
        if self.counts[check] <= SHOWN:
            self.findings.append(Finding(check, where, problem, remedy))

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.counts
