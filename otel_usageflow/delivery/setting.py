"""What the sender needs to know of the world: how to send, by which rules to freeze, and what time it is."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from otel_usageflow.delivery.batches import Batch
from otel_usageflow.delivery.pace import Pace
from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.ledger.freeze import FreezeRules, Lane
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Outcome, Refused


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the sender needs to know of the world.

    `send` makes one call. `rules` gives the rules for freezing, for a test of whether a lane is busy. `refused`
    is told of definite refusals. `wall` is unix seconds that do not fall behind, `clock` monotonic seconds.
    """

    send: Callable[[Batch], Awaitable[Outcome]]
    rules: Callable[[Callable[[Lane], bool]], FreezeRules]
    refused: Callable[[MeterEvent, Refused], None]
    backoff: Backoff
    pace: Callable[[str], Pace]
    """Of an account, empty for the key's own."""
    window: int
    """Seconds between the ends of windows."""
    most: int = 1
    """Events in one call; 1 for a receiver that takes them one by one."""
    wall: Callable[[], float] = field(default_factory=SteadyClock)
    clock: Callable[[], float] = time.monotonic
