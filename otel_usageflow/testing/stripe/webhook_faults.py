"""What goes wrong on purpose between Stripe and an endpoint of webhooks."""

from dataclasses import dataclass
from enum import StrEnum


class WebhookFault(StrEnum):
    """The ways in which the delivery of an event fails or misleads."""

    LOST = "lost"
    """It is never delivered."""
    LATE = "late"
    """It is delivered `seconds` later, by the double's clock."""
    DUPLICATED = "duplicated"
    """It is delivered once more, although the endpoint took it."""
    WRONG_SIGNATURE = "wrong_signature"
    """Signed with a secret that is not the endpoint's; retried properly."""
    OLD_TIMESTAMP = "old_timestamp"
    """Signed properly, `seconds` ago: a recording that is played again; retried properly."""
    CHANGED_BODY = "changed_body"
    """A body that is not the one that was signed; retried properly."""


@dataclass(slots=True, eq=False)
class WebhookRule:
    """One fault that was asked for.

    Args:
        event: only events of this type; None for any.
        times: how many deliveries, None for ever.
        seconds: of the late and of the old ones.
    """

    fault: WebhookFault
    event: str | None = None
    times: int | None = 1
    seconds: float = 3_600.0
    fired: int = 0

    def strikes(self, event: str) -> bool:
        """Whether it strikes an event of this type; counts it if so."""
        if self.event not in (None, event) or (self.times is not None and self.fired >= self.times):
            return False
        self.fired += 1
        return True
