"""The meter event: what is sent to Stripe, frozen before the first attempt and never changed after."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """One Stripe meter event, as it was written down.

    Fixed for good is all that Stripe is told of it; what follows `payload` is about our attempts. `value` is plain
    decimal text; `timestamp` is unix seconds; `payload` has the further keys only, not the customer and the value.
    """

    event_id: int
    account: str
    """The connected account, or empty for the key's own account."""
    event_name: str
    customer: str
    value: str
    timestamp: int
    identifier: str
    idempotency_key: str
    payload: dict[str, str] = field(default_factory=dict)
    attempts: int = 0
    first_attempt_at: float | None = None
    """Unix seconds of the first attempt, or None before it."""
    uncertain: bool = False
    """Whether an earlier attempt may have been processed."""
    batch: int = 0
    """The batch of the stream in which it was sent last; 0 where its last attempt was a call of its own."""

    @property
    def lane(self) -> tuple[str, str, str]:
        """Stripe takes one call at a time for each of these: account, event name, customer."""
        return self.account, self.event_name, self.customer
