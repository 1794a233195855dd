"""What a test may choose about the double, all of it changeable while it runs."""

from dataclasses import dataclass, field
from typing import Literal

DAY = 86_400

Duplicates = Literal["refuse", "ignore"]


@dataclass(slots=True)
class RateLimits:
    """Calls per second and account; None switches a limit off.

    The buckets hold one second's worth. Source: docs.stripe.com/rate-limits, live mode.
    """

    meter_events: float | None = 1_000
    """Only for calls without `Stripe-Account`; acting for a connected account counts as basic."""
    basic: float | None = 100
    search: float | None = 20
    """In addition to basic."""

    @classmethod
    def off(cls) -> "RateLimits":
        """No limits at all."""
        return cls(None, None, None)


@dataclass(slots=True)
class Settings:
    """How this Stripe behaves where Stripe's documentation leaves a choice, or a test wants one."""

    limits: RateLimits = field(default_factory=RateLimits)
    latency: float = 0.002
    """Real seconds that a meter event is in flight. Above 0, because otherwise no two calls ever overlap and a
    sender that breaks the rule of one call per customer and meter would go unnoticed."""
    duplicates: Duplicates = "refuse"
    """What a known identifier meets: status 400, or a 200 that counts nothing."""
    store_refusals: bool = True
    """Whether an idempotency key replays a 400 that came from the account's state (no meter, no customer, duplicate).
    What fails as a parameter is never stored."""
    identifier_memory: float = DAY
    """Seconds after which an identifier is forgotten, and a resend is counted again."""
    idempotency_memory: float = DAY
    """Seconds after which an idempotency key is forgotten."""
    search_lag: float = 0
    """Seconds until search sees a change."""
    events_lag: float = 0
    """Seconds until `/v1/events` shows an event."""
    summary_lag: float = 0
    """Seconds until summaries include a meter event."""
    keep_calls: int = 10_000
    """How many of the last calls are remembered, with headers and form."""
