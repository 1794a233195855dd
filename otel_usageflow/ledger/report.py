"""What the ledger can tell people: usage, and where it stands."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from otel_usageflow.ledger.explanation import ExplainedEvent, ExplainedRequest, ExplainedUsage
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.usage import Quantity


class Standing(StrEnum):
    """Where usage stands, in the words of reports."""

    BILLED = "billed"
    """Stripe has it."""
    SENDING = "sending"
    """Written down as a meter event that Stripe has not answered for yet."""
    COLLECTING = "collecting"
    """In a window that has not ended, or whose turn has not come."""
    QUARANTINED = "quarantined"
    """Cannot be billed yet, for the reason that stands with it."""
    UNKNOWN = "unknown"
    """Sent, perhaps counted, and too old to be sent again: the meter's summaries must tell."""
    NESTED = "nested"
    """The inner span of a request that is billed by its outer span."""
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


class LedgerReader(Protocol):
    """Reads a ledger, also while the service writes it."""

    def usage(self, since: float | None, until: float | None) -> list[UsageLine]:
        """Usage whose spans ended at or after `since` and before `until`, unix seconds, sorted."""

    def explain_trace(self, trace_id: bytes) -> list[ExplainedUsage]:
        """Everything that the ledger knows of a trace, in the order of time."""

    def explain_event(self, identifier: str) -> tuple[ExplainedEvent, list[ExplainedRequest]] | None:
        """A meter event and the requests that it is made of; None if there is none."""
