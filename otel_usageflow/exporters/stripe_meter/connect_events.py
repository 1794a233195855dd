"""Owners of accounts who end the connection: `account.application.deauthorized` among the platform's own events.

Whether Stripe lists them to the platform is not known for sure; a refused call tells as well, and a webhook sooner.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import stripe

from otel_usageflow.exporters.stripe_meter.wire import only_from_stripe

TYPE = "account.application.deauthorized"
_PAGE = 100


class Ended(NamedTuple):
    """An account whose owner ended the connection, and when, unix seconds by Stripe's clock."""

    account: str
    at: float


async def deauthorizations(client: stripe.StripeClient, since: int, livemode: bool) -> list[Ended]:
    """Those since a moment, in this mode.

    Raises:
        StripeFailure: they could not be read.
    """
    found: list[Ended] = []
    after: dict[str, str] = {}
    while True:
        params: Any = {"limit": _PAGE, "type": TYPE, "created": {"gte": since}, **after}
        with only_from_stripe():
            page = await client.v1.events.list_async(params)
            found.extend(_ended([item.to_dict() for item in page.data], livemode))
        if not page.has_more or not page.data:
            return found
        after = {"starting_after": page.data[-1].id}


def _ended(events: list[dict[str, Any]], livemode: bool) -> Iterator[Ended]:
    for event in events:
        account = event.get("account")
        if event["type"] == TYPE and isinstance(account, str) and event["livemode"] is livemode:
            yield Ended(account, float(event["created"]))
