"""Who makes a call, and for which account: keys, tokens of OAuth, sessions of the stream."""

import base64
import binascii
from collections.abc import Iterable, Mapping

from otel_usageflow.testing.stripe.connected_accounts import OWN_ACCOUNT
from otel_usageflow.testing.stripe.connections import Connections, no_access, only_reading
from otel_usageflow.testing.stripe.failures import invalid_key, key_expired, no_key
from otel_usageflow.testing.stripe.message import Request
from otel_usageflow.testing.stripe.oauth import OAuth
from otel_usageflow.testing.stripe.permissions import Permissions


class Keyring:
    """Every key that is known.

    Args:
        keys: the platform's own; `_live_` in a key means live mode.
        permissions: what each of them may do.
    """

    def __init__(self, keys: Iterable[str], permissions: Permissions, connections: Connections, oauth: OAuth) -> None:
        self.keys = set(keys)
        self.expired: set[str] = set()
        """Keys that were known once and have been rolled."""
        self._permissions, self._connections, self._oauth = permissions, connections, oauth

    def roll(self, old: str, new: str) -> None:
        """Replace a key by another that may do the same."""
        self._permissions.move(old, new)
        self.keys.discard(old)
        self.keys.add(new)
        self.expired.add(old)

    def authenticate(self, request: Request) -> tuple[str | None, bool]:
        """Account and mode of a call; the platform's own account is None.

        Raises:
            StripeFailure: 401 without a key that is known, 403 for an account or a thing that it may not touch.
        """
        key = key_of(request.headers)
        if not key:
            raise no_key()
        name = _named(request.headers)
        token = self._oauth.token_of(key)
        if token is not None:
            if name not in (None, token.account):
                raise no_access(key, name or "")
            self._connections.admit(key, token.account, request.method, token.livemode)
            if token.scope == "read_only" and request.method != "GET":
                raise only_reading(token.account)
            if token.app:
                self._permissions.admit_app(token.client_id, request.method, request.path, token.account)
            return token.account, token.livemode
        if key in self.expired:
            raise key_expired(key)
        if key not in self.keys:
            raise invalid_key(key)
        livemode = "_live_" in key
        self._permissions.admit(key, request.method, request.path, name)
        if name is not None:
            self._connections.admit(key, name, request.method, livemode)
        return name, livemode


def key_of(headers: Mapping[str, str]) -> str:
    """The key in `Authorization`, as Bearer or as the user of Basic; empty if there is none."""
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def _named(headers: Mapping[str, str]) -> str | None:
    # `Stripe-Context` is the newer way; of a path through several accounts the last one counts.
    name = headers.get("Stripe-Context", "").rpartition("/")[2] or headers.get("Stripe-Account")
    return None if not name or name == OWN_ACCOUNT else name
