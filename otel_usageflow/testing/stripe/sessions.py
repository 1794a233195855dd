"""`POST /v2/billing/meter_event_session`: tokens for the stream of meter events, good for 15 minutes.

Source: docs.stripe.com/api/v2/billing-meter-stream.
"""

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.failures import session_expired
from otel_usageflow.testing.stripe.ids import new_id
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.moments import rfc3339
from otel_usageflow.testing.stripe.params import Param
from otel_usageflow.testing.stripe.settings import Settings

if TYPE_CHECKING:
    from otel_usageflow.testing.stripe.account import Account

CREATE: Mapping[str, Param] = {}


class Sessions:
    """Every token that was given out, of all accounts."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self._clock, self._settings = clock, settings
        self._open: dict[str, tuple[Account, float]] = {}

    def create(self, account: "Account") -> JsonObject:
        """A token that acts for this account and mode."""
        now = self._clock.now()
        token = secrets.token_urlsafe(32)
        expires = now + self._settings.session_life
        self._open[token] = (account, expires)
        return {
            "id": new_id("mes", 24),
            "object": "v2.billing.meter_event_session",
            "authentication_token": token,
            "created": rfc3339(now),
            "expires_at": rfc3339(expires),
            "livemode": account.livemode,
        }

    def account_of(self, token: str) -> "Account":
        """Whose token it is.

        Raises:
            StripeFailure: 401, it is none, or it has expired.
        """
        account, expires = self._open.get(token, (None, 0.0))
        if account is None or self._clock.now() >= expires:
            raise session_expired()
        return account

    def expire_all(self) -> None:
        """Let every token that was given out be worth nothing."""
        self._open.clear()
