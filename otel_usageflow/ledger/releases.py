"""What a ledger releases by itself when the cause is gone; usage that only waits in windows is not meant, that is
reopened as soon as its customer or meter appears.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from otel_usageflow.model.usage import Reason, Terms


class Wanting(NamedTuple):
    """Events that Stripe refused for want of something: `reason` is no_customer or no_meter."""

    account: str
    reason: Reason
    event_name: str
    customer: str
    listed: bool
    """Whether the customer directory has that customer now."""


class Releases(Protocol):
    """The part of a ledger that puts things right when they can be."""

    async def refile(self, terms: Sequence[Terms], now: float) -> int:
        """Put held usage under the terms that its policy has now; return how many requests were. In short steps."""

    async def release_young(self, now: float) -> int:
        """Release what a wrong clock took for too old; return how many entries were. In short steps."""

    async def wanting(self, now: float, after: float) -> list[Wanting]:
        """What Stripe refused for want of a customer or a meter, at least `after` seconds ago."""

    async def release_wanting(self, wanting: Wanting, now: float, after: float) -> int:
        """Send such events again; return how many were put back."""
