"""How often Stripe is read for the directory: rarely while nobody waits, quickly when somebody does.

Reads have an allocation: 500 a transaction, and at least 10,000 a month for an account (docs.stripe.com/rate-limits).
docs/customers.md says what each of these numbers costs in a month.
"""

from collections.abc import Callable, Hashable, Set

from otel_usageflow.exporters.stripe_meter.customer_pages import PAGE

DAY = 86_400.0
_SECONDS_A_PAGE = 1_200.0
"""A listing only repairs what the events have missed: 2,160 reads a month at most, while it is not a week apart."""
_BLIND_A_PAGE = 600.0
"""The same where events cannot be read, and listings are all there is."""
_WEBHOOK_IDLE = 3_600.0
_SOONEST = 5.0
_PATIENCE = 600.0
"""Seconds after which what still waits is no reason to hurry any more."""
_SPARE = 500.0
_SPARE_AGAIN = 1_200.0


def listing_pause(customers: int, refresh: float, *, blind: bool) -> float:
    """Seconds between two listings of an account with so many customers."""
    pages = customers / PAGE
    if blind:
        return min(DAY, max(refresh, pages * _BLIND_A_PAGE))
    return min(7 * DAY, max(DAY, refresh, pages * _SECONDS_A_PAGE))


def poll_pause(refresh: float, *, webhook: bool) -> float:
    """Seconds between two looks at the events while nobody waits; `webhook`: it tells of changes, and missed none."""
    return max(refresh, _WEBHOOK_IDLE) if webhook else refresh


class Hurry:
    """Whether somebody new waits, and how soon it is worth looking again for them: less and less often.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: Set[Hashable] = frozenset()
        self._since: float | None = None
        self.news = False
        """Whether somebody waits for whom nothing was looked at yet."""

    def see(self, waiting: Set[Hashable]) -> None:
        """These wait now."""
        if waiting - self._known:
            self._since = self._clock()
            self.news = True
        elif not waiting:
            self._since, self.news = None, False
        self._known = frozenset(waiting)

    def looked(self) -> None:
        """Stripe was asked."""
        self.news = False

    @property
    def pause(self) -> float | None:
        """Seconds between two looks; None while there is no hurry."""
        if self._since is None or (waited := self._clock() - self._since) >= _PATIENCE:
            return None
        return 1.0 if self.news else max(_SOONEST, waited / 10)


class Spare:
    """Reads that may be made in a hurry: some at once, and then no more in a month than the allocation has left."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = _SPARE
        self._at = clock()

    def take(self, reads: float = 1.0, keep: float = 0.0) -> bool:
        """Whether so many may be made now and `keep` are left then; they count as made."""
        now = self._clock()
        self._left = min(_SPARE, self._left + max(0.0, now - self._at) / _SPARE_AGAIN)
        self._at = now
        if self._left - keep < reads:
            return False
        self._left -= reads
        return True
