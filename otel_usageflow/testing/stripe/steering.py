"""What every part of the double's Python side works on; `double.py` puts the parts together."""

from otel_usageflow.testing.stripe.account import Account
from otel_usageflow.testing.stripe.api import Api
from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.settings import Settings


class Steering:
    """A running Stripe, and whose accounts are meant when nobody says."""

    api: Api
    api_key: str
    clock: Clock
    settings: Settings

    def account(self, name: str | None = None, *, livemode: bool | None = None) -> Account:
        """The state of a connected account, or of the key's own; in the mode of the first key by default."""
        return self.api.account(name, "_live_" in self.api_key if livemode is None else livemode)
