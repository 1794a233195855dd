"""Meters and customers, as tests make and change them, and what has been used."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from otel_usageflow.testing.stripe.aggregation import aggregate
from otel_usageflow.testing.stripe.bulk import Bulk
from otel_usageflow.testing.stripe.steering import Steering


class ObjectSteering(Steering):
    """The part of the double that makes objects."""

    def add_meter(
        self,
        event_name: str,
        formula: str = "sum",
        *,
        event_time_window: str | None = None,
        customer_key: str = "stripe_customer_id",
        value_key: str = "value",
        account: str | None = None,
    ) -> str:
        """Make a meter; returns its id."""
        params = {
            "event_name": event_name,
            "display_name": event_name,
            "default_aggregation": {"formula": formula},
            "customer_mapping": {"event_payload_key": customer_key},
            "value_settings": {"event_payload_key": value_key},
            "event_time_window": event_time_window,
        }
        return self.account(account).meters.create(params).id

    def deactivate_meter(self, event_name: str, *, account: str | None = None) -> None:
        """Let a meter take no more events."""
        meters = self.account(account).meters
        meters.deactivate(self._meter_id(event_name, account), {})

    def reactivate_meter(self, event_name: str, *, account: str | None = None) -> None:
        """Let a meter take events again."""
        meters = self.account(account).meters
        meters.reactivate(self._meter_id(event_name, account), {})

    def add_customer(
        self,
        metadata: Mapping[str, str] | None = None,
        *,
        email: str | None = None,
        name: str | None = None,
        account: str | None = None,
    ) -> str:
        """Make a customer; returns its id."""
        params = {"metadata": dict(metadata or {}), "email": email, "name": name}
        return self.account(account).customers.create(params).id

    def add_customers(
        self,
        count: int,
        field: str,
        value: str | Sequence[str] = "user-{}",
        *,
        created: int | None = None,
        spread: int = 0,
        account: str | None = None,
    ) -> Bulk:
        """Make many customers at once, a million in no time; `Bulk.id_of(number)` is the id of each.

        `/v1/events` tells of none of them; in all else they are customers as any.

        Args:
            field: of their metadata.
            value: with `{}` for the number of the customer, from 0; or a value for each of them.
            created: of the first one, unix seconds; `spread` seconds ago by default.
            spread: seconds over which their creation is spread.

        Raises:
            ValueError: `value` is not good for so many.
        """
        return self.account(account).customers.create_many(count, field, value, created, spread)

    def update_customer(self, customer: str, metadata: Mapping[str, str], *, account: str | None = None) -> None:
        """Merge metadata into a customer's; an empty string removes a key."""
        self.account(account).customers.update(customer, {"metadata": dict(metadata)})

    def delete_customer(self, customer: str, *, account: str | None = None) -> None:
        """Delete a customer."""
        self.account(account).customers.delete(customer, {})

    def total(
        self, event_name: str, customer: str, *, account: str | None = None, livemode: bool | None = None
    ) -> Decimal:
        """What a customer has used under a meter, all time, by the meter's formula. Exact."""
        state = self.account(account, livemode=livemode)
        meter = state.meters.named(event_name)
        if meter is None:
            raise KeyError(f"no meter has the event name {event_name}")
        return aggregate(meter, state.book.counted(meter, customer))

    def _meter_id(self, event_name: str, account: str | None) -> str:
        meter = self.account(account).meters.named(event_name)
        if meter is None:
            raise KeyError(f"no meter has the event name {event_name}")
        return meter.id
