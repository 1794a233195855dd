"""The gate of one account: closed for a while when nothing gets through, so that nobody hammers on it."""

from collections.abc import Callable

from otel_usageflow.delivery.retry import Backoff


class Gate:
    """Opens for one probe after each pause; the first success opens it for all.

    Args:
        backoff: how long the pauses are.
        clock: monotonic seconds.
    """

    def __init__(self, backoff: Backoff, clock: Callable[[], float]) -> None:
        self._backoff = backoff
        self._clock = clock
        self._failures = 0
        self._closed_at = 0.0
        self.opens_at = 0.0
        """Monotonic time before which nobody may pass."""

    @property
    def failing(self) -> bool:
        """Whether the last word of this account was no."""
        return self._failures > 0

    def allows(self, in_flight: int) -> bool:
        """Whether one more attempt may begin, when `in_flight` are under way."""
        if not self._failures:
            return True
        return in_flight == 0 and self._clock() >= self.opens_at

    def succeeded(self) -> bool:
        """An attempt got an answer about the event; True if the gate was failing before."""
        was_failing = self.failing
        self._failures = 0
        return was_failing

    def failed(self, began_at: float) -> float | None:
        """An attempt that began at `began_at` hit a wall; seconds of pause, or None if that is known already."""
        if self._failures and began_at < self._closed_at:
            return None  # it was under way when the gate closed, and says nothing new
        self._failures += 1
        self._closed_at = self._clock()
        pause = self._backoff.delay(self._failures)
        self.opens_at = self._closed_at + pause
        return pause
