"""Who wants to be told what: endpoints of webhooks, their secrets and their signatures (docs.stripe.com/webhooks)."""

import fnmatch
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from otel_usageflow.testing.stripe.ids import new_id
from otel_usageflow.testing.stripe.message import JsonObject

Kind = Literal["snapshot", "thin"]


@dataclass(frozen=True, slots=True, eq=False)
class Notice:
    """Something that has happened and that endpoints may want to hear of."""

    id: str
    type: str
    kind: Kind
    owner: str | None
    """The account in which it happened, None for the platform's own."""
    about: str | None
    """The connected account that the event names, where the platform itself hears of one; or the owner."""
    livemode: bool
    due: float
    """When it is told at the earliest, by the double's clock."""
    render: Callable[[], JsonObject]


def new_secret() -> str:
    """A signing secret."""
    return f"whsec_{secrets.token_urlsafe(24)}"


@dataclass(slots=True, eq=False)
class WebhookEndpoint:
    """One address that is told of events.

    Args:
        events: types, with `*` for any part of one; an empty list is all.
        connect: it hears of connected accounts, not of the platform's own.
        livemode: an endpoint of live mode for connected accounts also hears of the test mode of those that are
            connected in live mode (docs.stripe.com/connect/webhooks).
    """

    url: str
    kind: Kind
    livemode: bool
    events: Sequence[str] = ()
    connect: bool = False
    secrets: list[str] = field(default_factory=lambda: [new_secret()])
    """Newest first; all of them sign while a secret is being rolled."""
    id: str = ""
    enabled: bool = True

    def __post_init__(self) -> None:
        self.id = self.id or new_id("we" if self.kind == "snapshot" else "ed_test", 24)

    @property
    def secret(self) -> str:
        """The newest signing secret."""
        return self.secrets[0]

    def roll(self, secret: str | None = None) -> str:
        """Begin to sign with a new secret too; returns it."""
        self.secrets.insert(0, secret or new_secret())
        return self.secret

    def forget(self) -> None:
        """Sign with the newest secret only."""
        del self.secrets[1:]

    def wants(self, notice: Notice) -> bool:
        """Whether it is told."""
        both = self.connect and self.livemode and notice.owner is not None
        mode = both or notice.livemode == self.livemode
        return (
            self.enabled
            and mode
            and notice.kind == self.kind
            and self.connect == (notice.about is not None)
            and (not self.events or any(fnmatch.fnmatchcase(notice.type, one) for one in self.events))
        )


def signature(body: bytes, moment: int, signing: Sequence[str]) -> str:
    """The value of `Stripe-Signature`: one `v1` for each secret."""
    signed = f"{moment}.".encode() + body
    marks = (hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in signing)
    return ",".join((f"t={moment}", *(f"v1={mark}" for mark in marks)))
