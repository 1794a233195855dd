"""How long to wait before the next attempt."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with jitter, in the Collector's terms (`retry_on_failure`). All in seconds.

    It never gives up: there is no maximum of attempts.
    """

    initial_interval: float = 1.0
    multiplier: float = 2.0
    randomization_factor: float = 0.5
    max_interval: float = 300.0

    def delay(self, failures: int, jitter: float | None = None) -> float:
        """Seconds to wait after this many failures in a row (from 1). `jitter`: 0 to 1, random if not given."""
        steps = min(failures - 1, 64)
        interval = min(self.initial_interval * self.multiplier**steps, self.max_interval)
        spread = self.randomization_factor * interval
        position = random.random() if jitter is None else jitter  # noqa: S311  (jitter is no secret)
        return interval - spread + 2 * spread * position
