"""What OAuth hands out: codes that are good once and for 5 minutes, tokens, and the refusals in OAuth's shape.

Sources: docs.stripe.com/connect/oauth-reference, docs.stripe.com/stripe-apps/api-authentication/oauth.
"""

import secrets
from dataclasses import dataclass, field

from otel_usageflow.testing.stripe.connections import Scope
from otel_usageflow.testing.stripe.failures import StripeFailure
from otel_usageflow.testing.stripe.message import Answer

HOUR = 3_600.0
YEAR = 365 * 86_400.0


@dataclass(slots=True)
class Token:
    """An access token, which acts for one account, and the refresh token that came with it."""

    access: str
    refresh: str
    account: str
    client_id: str
    livemode: bool
    scope: Scope
    expires: float
    """Of the access token, by the double's clock; infinite for Connect."""
    refresh_expires: float
    revoked: bool = False
    replaced: bool = False
    """Whether its refresh token was exchanged for another; only apps replace them."""

    @property
    def app(self) -> bool:
        """Whether it is one of a Stripe App."""
        return self.scope == "stripe_apps"


@dataclass(slots=True)
class Code:
    """What a browser brings back to the platform."""

    value: str
    account: str
    client_id: str
    livemode: bool
    scope: Scope
    expires: float
    used: bool = False
    tokens: list[Token] = field(default_factory=list)
    """What was handed out for it; revoked when it is used again."""


def new_token(account: str, client_id: str, livemode: bool, scope: Scope, now: float, life: float) -> Token:
    """A fresh token; those of apps live for `life` seconds, those of Connect until they are revoked."""
    mode = "live" if livemode else "test"
    app = scope == "stripe_apps"
    return Token(
        access=f"{'sk_app' if app else 'sk'}_{mode}_{secrets.token_hex(16)}",
        refresh=f"rt_{secrets.token_hex(20)}",
        account=account,
        client_id=client_id,
        livemode=livemode,
        scope=scope,
        expires=now + life if app else float("inf"),
        refresh_expires=now + YEAR if app else float("inf"),
    )


class OAuthRefusal(StripeFailure):
    """An error as OAuth shows it: `error` is a word, `error_description` a sentence."""

    def __init__(self, word: str, description: str, status: int = 400) -> None:
        super().__init__(status, description)
        self.word, self.description = word, description
        self.answer = Answer(status, {"error": word, "error_description": description})


def invalid_grant(description: str) -> OAuthRefusal:
    """400: a code or a refresh token is not (or no longer) good."""
    return OAuthRefusal("invalid_grant", description)


def invalid_request(description: str) -> OAuthRefusal:
    """400: something is missing or makes no sense."""
    return OAuthRefusal("invalid_request", description)


def invalid_client(description: str) -> OAuthRefusal:
    """401: the client id, or the account, is not one of this platform in this mode."""
    return OAuthRefusal("invalid_client", description, 401)
