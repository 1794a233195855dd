"""What one account takes: calls a second, as its receiver documents it, and the share of it that is used."""

from dataclasses import dataclass

RATE = 0.85
"""Share of a documented limit at which calls are made in the long run."""
BURST = 0.10
"""Share of it that may be saved up on top: in no second there is more than 95 % of a limit."""
SEND_BURST = 0.05
"""The same of a budget that is only for sends, of which a few more may be under way when a commit took long."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Calls a second that one account takes.

    `basic` is for everything but sends that have a limit of their own, `endpoint` for each endpoint within it.
    `sends`: None if sends are part of `basic`. `by_event`: whether a batch counts as many as it has events.
    """

    basic: float
    endpoint: float
    search: float
    sends: float | None = None
    by_event: bool = False

    @classmethod
    def exactly(cls, sends: float) -> "Limits":
        """For tests and other receivers: so many sends a second on the average, and whatever else."""
        return cls(basic=1e9, endpoint=1e9, search=1e9, sends=sends / RATE)
