"""How often the exporter looks at what is not settled, all in seconds. Only tests use other values than these."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Waiting is measured with the service's clock; `tick` and `look` pass in real time."""

    tick: float = 5.0
    """Between two looks at whether reports are due."""
    look: float = 60.0
    """Between two looks at events of unknown outcome."""
    summary_delay: float = 3_600.0
    """After which Stripe's summaries are believed to be complete; it states none, others have seen two minutes."""
    release: float = 60.0
    """Between two looks at what can be released by itself; what costs more is looked at up to an hour apart."""
    reports_idle: float = 1_800.0
    """Between two reads of error reports."""
    reports_soon: float = 30.0
    """The same in the `soon_for` after the first event since the start: what is set up wrongly shows then."""
    soon_for: float = 600.0
    reads_per_second: float = 2.0
    reads_per_hour: float = 240.0
    """Of summaries: reads have an allocation of their own, which all programs of an account share."""
    longest_pause: float = 86_400.0
    """Between two questions about what could not be decided."""


RHYTHM = Rhythm()
