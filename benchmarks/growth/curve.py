"""What a curve is: something that grows, and a ledger that has so much of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def _nothing(_directory: Path, _size: int) -> None:
    """There is nothing to put into the ledger."""


def _customers(_size: int) -> int:
    return 1_000


@dataclass(frozen=True, slots=True)
class Curve:
    """One thing that grows while all else stays."""

    name: str
    sizes: tuple[int, ...]
    """Measured by default."""
    full: tuple[int, ...] = ()
    """Measured besides with --full: minutes to build, gigabytes of disk."""
    prepare: Callable[[Path, int], None] = _nothing
    """Makes the directory of a ledger with so much of it."""
    policies: Callable[[int], int] = lambda _size: 1
    users: Callable[[int], int] = lambda _size: 100_000
    """Of the load, by Zipf."""
    customers: Callable[[int], int] = _customers
    """Users who are customers, the busiest first; usage of the others waits in the ledger."""
    pool: int = 20_000
    """Spans of the load that differ in their user."""
    even: bool = False
    """Billable spans have all users in turn, instead of by Zipf."""
