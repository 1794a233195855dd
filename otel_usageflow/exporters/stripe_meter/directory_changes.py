"""What changes of customers mean: which of them to believe, and for which to ask Stripe what is so now.

Events come late, more than once and in any order. So an event is believed by itself only if it is newer than all that
is known of its customer. Otherwise it is a hint: if it says what is known, nothing is done, and if it says something
else, the customer is read.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from otel_usageflow.exporters.stripe_meter.api import StripeApi
from otel_usageflow.exporters.stripe_meter.customer_pages import Change, Customer
from otel_usageflow.ledger.ledger import CustomerChange, Ledger

_AT_ONCE = 100
"""Customers that are written in one transaction."""

Values = Mapping[str, str]


class Changes:
    """Applies changes to the directory of one account."""

    def __init__(self, api: StripeApi, ledger: Ledger, account: str) -> None:
        self._api = api
        self._ledger = ledger
        self._account = account
        self._applied: dict[str, float] = {}

    async def take(self, changes: Iterable[Change], fields: Sequence[str], generation: int, since: float) -> int:
        """Apply changes, some customers at a time; return how many customers had to be read.

        Args:
            generation: that of the listing that runs, or was the last.
            since: unix seconds by Stripe's clock up to which changes may be known already.

        Raises:
            StripeFailure: Stripe did not answer; some may have been applied.
        """
        by_customer: dict[str, list[Change]] = {}
        for change in sorted(changes, key=lambda change: change.created):
            by_customer.setdefault(change.customer.id, []).append(change)
        reads, customers = 0, list(by_customer)
        for first in range(0, len(customers), _AT_ONCE):
            some = customers[first : first + _AT_ONCE]
            known = await self._ledger.known_customers(self._account, fields, some)
            now: list[Customer] = []
            for one in some:
                told = by_customer[one]
                verdict = judged(told, known.get(one, {}), fields, max(since, self._applied.get(one, 0.0)))
                if verdict == ASK:
                    reads += 1
                    now.append(await self._api.customer(self._account, one))
                elif isinstance(verdict, Customer):
                    now.append(verdict)
            await self.apply(now, fields, generation)
            for one in some:
                self.note(one, by_customer[one][-1].created)
        return reads

    async def read(self, customers: Collection[str], fields: Sequence[str], generation: int, at: float) -> None:
        """Take customers as they are now; `at` is now, unix seconds."""
        for customer in customers:
            await self.apply([await self._api.customer(self._account, customer)], fields, generation)
            self.note(customer, at)

    async def apply(self, customers: Sequence[Customer], fields: Sequence[str], generation: int) -> None:
        """Write customers down, all at one moment: a value that moves from one to another is nobody else's."""
        if customers:
            changes = [CustomerChange(c.id, None if c.deleted else c.metadata) for c in customers]
            await self._ledger.apply_customers(self._account, fields, changes, generation)

    def note(self, customer: str, moment: float) -> None:
        """What is known of a customer is of this moment or later, by Stripe's clock."""
        self._applied[customer] = max(moment, self._applied.get(customer, 0.0))

    def forget(self, before: float) -> None:
        """Changes from before this moment do not come any more."""
        self._applied = {name: at for name, at in self._applied.items() if at >= before}


ASK = "ask"
NOTHING = "nothing"


def judged(told: Sequence[Change], known: Values, fields: Sequence[str], newest: float) -> Customer | str:
    """What changes of one customer, oldest first, come to: the customer as it is, `ASK`, or `NOTHING`.

    Args:
        known: the fields that the directory knows.
        newest: unix seconds; what is known may be newer than a change from before.
    """
    gone = next((change.customer for change in told if change.customer.deleted), None)
    if gone is not None:
        return gone  # for good: an id is never given again
    if all(relevant(change.customer.metadata, fields) == known for change in told):
        return NOTHING
    if len(told) == 1 and told[0].created > newest:
        return told[0].customer
    return ASK


def relevant(metadata: Values, fields: Sequence[str]) -> dict[str, str]:
    """The fields that are followed, as far as there is something in them."""
    return {field: value for field in fields if (value := metadata.get(field))}
