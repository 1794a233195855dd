"""What becomes of meter events after their 200: rejected, lost, strange, taken back."""

from otel_usageflow.testing.stripe.book import MeterEvent
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.meter_events import send_foreign
from otel_usageflow.testing.stripe.rejections import RejectRule
from otel_usageflow.testing.stripe.steering import Steering


class UsageSteering(Steering):
    """The part of the double that lets meter events meet their fate."""

    def reject(
        self,
        event_name: str | None,
        code: str,
        *,
        times: int | None = 1,
        probability: float = 1.0,
        seed: int = 0,
        customer: str | None = None,
        real: bool = False,
        account: str | None = None,
    ) -> RejectRule:
        """Let events that are fine be answered 200 and rejected later; see `RejectRule`. `RejectRule.fired` counts.

        Args:
            code: in the error report, such as `meter_event_customer_not_found`; `no_meter` makes a `no_meter_found`.
            times: None for ever, until `clear_rejections`.
            real: delete the customer, or deactivate the meter, as the code says.

        Raises:
            ValueError: `real` with a code that names neither.
        """
        rule = RejectRule(event_name, code, times, probability, seed, customer, real)
        return self.account(account).reject_rules.add(rule)

    def clear_rejections(self) -> None:
        """Nothing that is fine is rejected any more, in any account."""
        for account in self.api.accounts.values():
            account.reject_rules.clear()

    def reports(self, *, account: str | None = None) -> list[JsonObject]:
        """The error reports that have appeared, whole, newest first, as `/v2/core/events/ID` shows them."""
        return [report.whole(self.settings) for report in self.account(account).reports.visible()]

    def lose(
        self,
        event_name: str | None = None,
        *,
        n: int = 1,
        customer: str | None = None,
        identifier: str | None = None,
        forget: bool = False,
        account: str | None = None,
    ) -> list[MeterEvent]:
        """Let Stripe lose events that it has accepted: the `n` oldest that count and fit; returns them.

        They stay in `accepted`, and are in no total and no summary from now on.

        Args:
            forget: whether their identifiers are free again.

        Raises:
            ValueError: fewer than `n` fit; nothing was lost then.
        """
        book = self.account(account).book
        events = book.find(event_name, customer, identifier)[:n]
        if len(events) < n:
            raise ValueError(f"only {len(events)} events fit, so {n} cannot be lost")
        for event in events:
            book.lose(event, forget=forget)
        return events

    def add_foreign(
        self,
        event_name: str,
        customer: str,
        value: str = "1",
        *,
        timestamp: int | None = None,
        account: str | None = None,
    ) -> MeterEvent:
        """Let another program send a meter event, which counts; it is in `accepted` too, with a random identifier.

        Args:
            timestamp: unix seconds; now by default.

        Raises:
            ValueError: Stripe would not take it.
        """
        return send_foreign(self.account(account).intake, event_name, customer, value, timestamp)

    @property
    def cancelled(self) -> list[MeterEvent]:
        """Every event that its sender took back."""
        return [event for account in self.api.accounts.values() for event in account.book.cancelled]

    @property
    def lost(self) -> list[MeterEvent]:
        """Every event of `lose`."""
        return [event for account in self.api.accounts.values() for event in account.book.lost]

    @property
    def foreign(self) -> list[MeterEvent]:
        """Every event of `add_foreign`."""
        return [event for account in self.api.accounts.values() for event in account.book.foreign]

    def reads(self, path: str = "/", *, account: str | None = None) -> int:
        """How many GET calls an account has spent on paths that begin with `path`, ids written as `*`.

        Calls that were refused for their key or their rate are none.
        """
        return sum(count for read, count in self.account(account).reads.items() if read.startswith(path))

    def reads_of_30_days(self, *, account: str | None = None) -> int:
        """What of its read allocation an account has used: GET calls of any kind, by the clock."""
        return self.account(account).allocation.used()
