"""How long usage is kept: the decisions, without a database and without a clock.

What is older than the retention and settled may go. Its days go as a whole, so that a report by days stays true.
Age is counted from the newest usage, not from the clock alone: a clock that is ahead makes nothing old.
"""

from dataclasses import dataclass

from otel_usageflow.ledger.charge import DAY

SETTLED_FOR = 3 * DAY
"""Seconds for which an answer is kept at least, whatever the age of the usage: Stripe may still take it back."""
_TOO_FAR = 3600.0
"""Seconds by which a wall clock was set, while this process lives, from which on nothing is pruned."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pass of pruning may remove. All are unix seconds."""

    before: int
    """Usage of before this moment, the begin of a UTC day."""
    settled_before: float
    """What became of it is known since before this."""
    totals_before: int
    """The sums of days before this one."""


def limits(now: float, newest: float | None, retention: float, totals: float) -> Limits | None:
    """What may be removed now; None if nothing may.

    `newest` is the moment of the newest usage. The durations are in seconds.
    """
    if newest is None:
        return None
    present = min(now, newest)
    before = _day(present - retention)
    if before <= 0:
        return None
    return Limits(before, now - min(SETTLED_FOR, retention), _day(present - totals))


def is_trusted(set_by: float) -> bool:
    """Whether a clock is good enough to prune by that was set by so many seconds since the start."""
    return abs(set_by) < _TOO_FAR


def _day(second: float) -> int:
    return max(int(second) // DAY * DAY, 0)
