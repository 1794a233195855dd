"""What `doctor` finds: one line each, with its remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Something to know."""
    WARNING = "warning"
    """Nothing is lost now, and something may be."""
    PROBLEM = "problem"
    """Usage is lost, not billed, or will not be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict."""

    level: Level
    subject: str
    """What was looked at, as a path of the configuration where there is one."""
    text: str
    remedy: str = ""


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level among them."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)
