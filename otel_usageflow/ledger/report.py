"""What the ledger can tell people: usage, and where it stands."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from otel_usageflow.ledger import amount
from otel_usageflow.ledger.explanation import ExplainedEvent, ExplainedRequest, ExplainedUsage
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.usage import Quantity

CORRECTION = "correction"
"""The reason of a line that corrects others: a signed quantity, of no requests."""


class Standing(StrEnum):
    """Where usage stands, in the words of reports."""

    BILLED = "billed"
    """Stripe has it."""
    SENDING = "sending"
    """Written down as a meter event that Stripe has not answered for yet."""
    WAITING = "waiting"
    """Spans of its trace are waited for, of which its quantity is summed; only in explanations."""
    COLLECTING = "collecting"
    """In a window that has not ended, or whose turn has not come."""
    QUARANTINED = "quarantined"
    """Cannot be billed yet, for the reason that stands with it."""
    UNKNOWN = "unknown"
    """Sent, perhaps counted, and too old to be sent again: the meter's summaries must tell."""
    NESTED = "nested"
    """The inner span of a request that is billed by its outer span."""
    SAME_REQUEST = "same request"
    """Carries the id of a request that another charge counts for."""
    DISCARDED = "discarded"
    """Somebody decided, with a reason, that it is not billed."""
    CANCELLED = "cancelled"
    """Stripe had it, and cancelled it because somebody asked for that."""


STANDING_OF_EVENT = {
    EventState.FROZEN: Standing.SENDING,
    EventState.SENDING: Standing.SENDING,
    EventState.ACCEPTED: Standing.BILLED,
    EventState.REFUSED: Standing.QUARANTINED,
    EventState.UNKNOWN: Standing.UNKNOWN,
    EventState.RETURNED: Standing.QUARANTINED,
    EventState.DISCARDED: Standing.DISCARDED,
    EventState.CANCELLED: Standing.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class UsageLine:
    """Usage of one user under one event name that stands at the same point."""

    account: str
    event_name: str
    metadata_field: str | None
    user: str
    """Empty for usage without a user."""
    customer: str | None
    """Known once the usage is in a meter event."""
    standing: Standing
    reason: str | None
    requests: int
    quantity: Quantity
    """Without what has no valid quantity."""
    day: str | None = None
    """The UTC day as `2026-11-22`, in a report by day."""
    mode: str = ""
    """Of the key, `test` or `live`: usage of the one is never added to that of the other."""

    def plus(self, other: "UsageLine") -> "UsageLine":
        """This line with the requests and the quantity of another added."""
        return replace(
            self, requests=self.requests + other.requests, quantity=amount.add(self.quantity, other.quantity)
        )


class LedgerReader(Protocol):
    """Reads a ledger, also while the service writes it."""

    def answerable(self, since: float | None, until: float | None) -> tuple[float | None, float | None]:
        """The time that `usage` can tell for the one asked for: whole days where single requests are pruned."""

    def usage(self, since: float | None, until: float | None, *, by_day: bool = False) -> list[UsageLine]:
        """Usage whose spans ended at or after `since` and before `until`, unix seconds, sorted."""

    def pruned_to(self) -> int:
        """Settled usage of before this moment, unix seconds, is pruned; 0 if none was."""

    def waiting_requests(self) -> int:
        """How many requests wait for spans of their trace, and are in no usage yet."""

    def explain_trace(self, trace_id: bytes) -> list[ExplainedUsage]:
        """Everything that the ledger knows of a trace, in the order of time."""

    def explain_event(self, identifier: str) -> tuple[ExplainedEvent, list[ExplainedRequest]] | None:
        """A meter event and the requests that it is made of; None if there is none."""
