"""The customers of the load: the busiest users first, with ids that everybody can tell who knows their number."""

from collections.abc import Iterator

from otel_usageflow.testing.stripe.bulk import Bulk
from throughput.spans import FIELD, user

BOOK = "stripe_meter test"
"""What the ledger calls the exporter of `servers.configuration`."""
MARK = "Growth"
"""Begins the ids, behind `cus_`."""


def customers(count: int) -> Iterator[tuple[str, str]]:
    """(user, customer id) of as many, as the double of `stripe_side` has them."""
    bulk = Bulk(0, count, FIELD, [user(number) for number in range(1, count + 1)], 0, 0, livemode=False, added=0.0)
    bulk.mark = MARK
    return ((bulk.value_of(number), bulk.id_of(number)) for number in range(count))
