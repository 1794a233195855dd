"""Which meters can be fed correctly, and how. Pure.

We send deltas: each meter event adds what happened in its window. That is right for a meter that sums raw events,
and it can be made right for `count` (one event a record) and `last` (the last value of a window). A meter with an
`event_time_window` keeps only the last event of an hour or a day: deltas would overwrite each other.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.model.usage import Reason


@dataclass(frozen=True, slots=True)
class Meter:
    """What we use of a Stripe meter (API reference: `billing/meter/object`)."""

    event_name: str
    formula: str
    active: bool
    event_time_window: str | None = None
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"
    id: str = ""
    """For summaries; empty where the meter is not known."""
    display_name: str = ""


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a meter cannot be fed, and what to do about it."""

    why: str
    remedy: str
    for_good: bool = True
    """Whether it stays so: a missing meter can still be made."""
    reason: Reason = Reason.NO_METER

    def __str__(self) -> str:
        return f"{self.why}; {self.remedy}"


def feeding(meter: Meter | None, event_name: str, account: str, *, ones: bool = True) -> Formula | Unfit:
    """How to feed the meter of this event name, or why it cannot be fed.

    `ones`: every request under this event name counts 1.
    """
    where = f"connected account {account}" if account else "Stripe"
    if meter is None:
        return Unfit(
            f"{where} has no meter with event_name {event_name!r}",
            "make it with `otel-usageflow meters create`, or in Billing > Meters; the usage is kept and billed once "
            "it is there",
            for_good=False,
        )
    if not meter.active:
        return Unfit(
            f"the meter with event_name {event_name!r} is inactive",
            "reactivate it in Stripe; the usage is kept and billed once it is active",
            for_good=False,
        )
    if meter.event_time_window is not None:
        return Unfit(
            f"the meter with event_name {event_name!r} has event_time_window {meter.event_time_window!r}, so that "
            "each event replaces the ones before it",
            "create a meter without event_time_window under another event_name, and name that in the policy",
        )
    if meter.formula == Formula.COUNT and not ones:
        return Unfit(
            f"the meter with event_name {event_name!r} counts events and ignores their value, but a policy bills "
            "another quantity than 1, or weighs requests (sampling: adjust)",
            "create a meter that aggregates by sum under another event_name, and name that in the policy",
        )
    try:
        return Formula(meter.formula)
    except ValueError:
        return Unfit(
            f"the meter with event_name {event_name!r} aggregates by {meter.formula!r}, which is not known here",
            "create a meter that aggregates by sum under another event_name, and name that in the policy",
        )


def refusals(answers: Iterable[Formula | Unfit]) -> list[Unfit]:
    """Reasons not to start: meters that exist, are active, and can never be fed correctly."""
    return [answer for answer in answers if isinstance(answer, Unfit) and answer.for_good]
