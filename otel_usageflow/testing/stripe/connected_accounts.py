"""`/v1/account` and `/v1/accounts`: the platform itself, and the accounts that are connected to it.

Only what tells accounts apart is shown (docs.stripe.com/api/accounts).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otel_usageflow.testing.stripe.connections import Connections, no_access
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.paging import page
from otel_usageflow.testing.stripe.params import EXPAND, PAGING, Param, moments

OWN_ACCOUNT = "acct_double"
"""The platform's own, which may be named as well as left out."""
LIST = PAGING | {"created": Param(moments)}
RETRIEVE = EXPAND


@dataclass(frozen=True, slots=True)
class ShownAccount:
    """One account as a list has it."""

    id: str
    created: int
    place: int

    def render(self) -> JsonObject:
        """The account object."""
        return {
            "id": self.id,
            "object": "account",
            "business_profile": {"name": self.id},
            "charges_enabled": True,
            "country": "US",
            "created": self.created,
            "default_currency": "usd",
            "details_submitted": True,
            "email": None,
            "metadata": {},
            "payouts_enabled": True,
            "settings": {"dashboard": {"display_name": self.id, "timezone": "Etc/UTC"}},
            "type": "standard",
        }


def own(name: str | None) -> ShownAccount:
    """GET /v1/account: whose key it is, or for whom it acts."""
    return ShownAccount(name or OWN_ACCOUNT, 0, 0)


def retrieve(connections: Connections, identity: str, key: str, livemode: bool) -> ShownAccount:
    """GET /v1/accounts/ID.

    Raises:
        StripeFailure: 403, it is not connected.
    """
    if identity == OWN_ACCOUNT:
        return own(None)
    for shown in _all(connections, livemode):
        if shown.id == identity:
            return shown
    raise no_access(key, identity)


def list_accounts(connections: Connections, params: Mapping[str, Any], key: str, livemode: bool) -> JsonObject:
    """GET /v1/accounts: those that are connected, newest first."""

    def find(identity: str) -> ShownAccount:
        return retrieve(connections, identity, key, livemode)

    return page("/v1/accounts", _all(connections, livemode), params, find)


def _all(connections: Connections, livemode: bool) -> list[ShownAccount]:
    since: dict[str, int] = {}
    for one in sorted(connections.all(livemode), key=lambda connection: connection.since):
        since.setdefault(one.account, one.since)
    return [ShownAccount(name, moment, place) for place, (name, moment) in enumerate(since.items())]
