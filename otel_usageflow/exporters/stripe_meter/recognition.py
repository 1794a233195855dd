"""Whether the key's own account is the one that was billed before; `ledger/identity.py` says by what."""

from collections.abc import Collection, Iterable

from otel_usageflow.exporters.stripe_meter.api import StripeApi
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.wire import UnexpectedAnswer
from otel_usageflow.ledger.identity import is_another_account

_ASKED = 3
"""Meters that are asked for by their ids, should the list not have them."""


async def is_another(api: StripeApi, known: Collection[str], meters: Iterable[Meter]) -> bool:
    """Whether none of the known meters is in the key's own account, neither listed nor by its id.

    Raises:
        StripeFailure: nobody knows now.
    """
    if not is_another_account(known, (meter.id for meter in meters)):
        return False
    for meter in sorted(known)[:_ASKED]:
        look = await api.look("", f"/v1/billing/meters/{meter}")
        if look.status == 200:
            return False
        if look.status != 404:
            raise look.error or UnexpectedAnswer(f"the meter {meter} cannot be asked for: status {look.status}")
    return True
