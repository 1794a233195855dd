"""Who goes first: fresh usage and what waits since longer share the turns of an account, as pure decisions.

Usage that Stripe will soon not bill any more is more urgent than fresh usage, which has at least an hour (guide:
configure a grace period; events are taken up to 35 days back).
"""

from calendar import timegm
from dataclasses import dataclass
from time import gmtime

from otel_usageflow.ledger.charge import DAY, MINUTE, STRIPE_PAST

_FRESH = 120
"""Seconds after which usage that has not been frozen counts as a backlog."""
_SHARE = 0.5
"""Of the turns for the backlog, while there is fresh usage too."""
_URGENT_SHARE = 0.875
_LONGEST_GRACE = 3 * DAY
"""How long invoices can stay open after a billing period; an hour, unless somebody has set more."""


def fresh_since(now: float) -> int:
    """From when on usage is fresh, unix seconds: a whole minute, because windows of one minute may merge."""
    return int(now - _FRESH) // MINUTE * MINUTE


def is_urgent(timestamp: float, now: float) -> bool:
    """Whether usage of this moment (both unix seconds, UTC) is about to be lost.

    It is within its last day before Stripe takes it no more, or it is of a month that has ended: many billing periods
    end with it, and invoices are open for three days at most. Nobody tells us of other periods.
    """
    if now - timestamp > STRIPE_PAST - DAY:
        return True
    today = gmtime(now)
    month = timegm((today.tm_year, today.tm_mon, 1, 0, 0, 0))
    return timestamp < month and now - month < _LONGEST_GRACE


@dataclass(slots=True)
class Turns:
    """Deals out turns between the backlog and fresh usage while both wait."""

    owed: float = 0.0
    """Turns that the backlog has coming."""

    def backlog_next(self, oldest: float, now: float) -> bool:
        """Whether the next turn is the backlog's, whose next event is of the moment `oldest`."""
        self.owed += _URGENT_SHARE if is_urgent(oldest, now) else _SHARE
        if self.owed < 1:
            return False
        self.owed -= 1
        return True
