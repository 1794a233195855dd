"""What a restricted key must be allowed, by what the configuration does with it, and the link that fills in the form.

The names are those of Stripe's list of permissions; docs/stripe.md says which of them are guesses.
"""

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig


class Permission(NamedTuple):
    """One permission."""

    name: str
    what_for: str
    sure: bool = True
    """Whether Stripe's published list says so."""


SEND = Permission("billing_meter_event_write", "sending meter events, and opening sessions of the stream")
METERS = Permission("billing_meter_read", "reading meters and their summaries")
CUSTOMERS = Permission("customer_read", "reading customers")
EVENTS = Permission("event_read", "changes of customers, and reports of meter events that were refused later")
SUMMARIES = Permission("billing_meter_event_read", "summaries, should Stripe ask for it besides", sure=False)
CANCEL = Permission("billing_meter_event_adjustment_write", "taking meter events back (`usage adjust`)", sure=False)
CREATE = Permission("billing_meter_write", "`meters create`; give it to a key of your own, not to the service's")
ACCOUNTS = Permission("connected_account_read", "acting for connected accounts, should Stripe ask for it", sure=False)


def permissions_of(config: StripeMeterConfig) -> tuple[Permission, ...]:
    """What the service's key needs, the certain ones first."""
    connected = config.account is not None or config.connect is not None
    return (SEND, METERS, CUSTOMERS, EVENTS, *((ACCOUNTS,) if connected else ()))


def form(permissions: Iterable[Permission], mode: str) -> str:
    """The address of the Dashboard's form for a restricted key, filled in."""
    names = "&".join(f"permissions[]=rak_{quote(one.name)}" for one in permissions)
    return (
        f"https://dashboard.stripe.com/{'test/' if mode == 'test' else ''}apikeys/create?name=otel-usageflow&{names}"
    )
