"""The read allocation: GET calls of an account within 30 days (docs.stripe.com/rate-limits).

What Stripe does when it is used up is documented nowhere; a 429 for further reads is our own choice, and only with
`Settings.read_allocation`.
"""

from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.failures import rate_limited
from otel_usageflow.testing.stripe.settings import DAY, Settings

DAYS = 30


class Allocation:
    """What one account has read."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self._clock, self._settings = clock, settings
        self._by_day: dict[int, int] = {}

    def used(self) -> int:
        """GET calls of the last 30 days, counted by days of the double's clock."""
        today = int(self._clock.now() // DAY)
        if len(self._by_day) > DAYS:
            self._by_day = {day: count for day, count in self._by_day.items() if day > today - DAYS}
        return sum(count for day, count in self._by_day.items() if day > today - DAYS)

    def spend(self) -> None:
        """One more.

        Raises:
            StripeFailure: 429, it is used up and that is enforced; the call does not count then.
        """
        allowed = self._settings.read_allocation
        if allowed and self.used() >= allowed:
            raise rate_limited("resource-specific")
        today = int(self._clock.now() // DAY)
        self._by_day[today] = self._by_day.get(today, 0) + 1
