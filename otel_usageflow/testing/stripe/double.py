"""The Stripe double as tests use it: started in the test's own event loop, steered and read by plain calls."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from decimal import Decimal
from types import TracebackType
from typing import Self

from otel_usageflow.testing.stripe.account import Account, Shared, Violation
from otel_usageflow.testing.stripe.aggregation import aggregate
from otel_usageflow.testing.stripe.api import Api
from otel_usageflow.testing.stripe.book import MeterEvent
from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.control import Control
from otel_usageflow.testing.stripe.faults import Fault, Rule
from otel_usageflow.testing.stripe.message import Call, JsonObject
from otel_usageflow.testing.stripe.meter_events import send_foreign
from otel_usageflow.testing.stripe.permissions import Permissions
from otel_usageflow.testing.stripe.rejections import Rejected, RejectRule
from otel_usageflow.testing.stripe.server import Server
from otel_usageflow.testing.stripe.sessions import Sessions
from otel_usageflow.testing.stripe.settings import Settings

DEFAULT_KEY = "sk_test_double"


class StripeDouble:
    """A stateful Stripe on 127.0.0.1, for the length of an `async with`.

    Args:
        api_key: the key (or keys) that it knows; `_live_` in a key means live mode.
        permissions: key -> what it may do, such as `{"customer_read"}`; a key that is not in here may do everything.
        clock: decides ages, lags and what is forgotten; the real time by default.
        settings: latency, limits, lags; may be changed while it runs.
        port: 0 picks a free one.
        monotonic: seconds, for the rate limits only.
    """

    def __init__(
        self,
        api_key: str | Sequence[str] = DEFAULT_KEY,
        *,
        permissions: Mapping[str, Set[str]] | None = None,
        clock: Clock | None = None,
        settings: Settings | None = None,
        port: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        keys = [api_key] if isinstance(api_key, str) else list(api_key)
        self.api_key = keys[0]
        self.clock = clock or Clock()
        self.settings = settings or Settings()
        self.accepted: list[MeterEvent] = []
        """Every meter event that was accepted, by any account, in the order of arrival."""
        self.rejected: list[Rejected] = []
        """Every meter event that was answered 200 and rejected later, likewise; it counts nowhere."""
        self.violations: list[Violation] = []
        """Calls that broke the rule of one in flight per customer and meter; a test should end with none."""
        self.calls: deque[Call] = deque(maxlen=self.settings.keep_calls)
        """The last calls, whatever came of them."""
        self.sessions = Sessions(self.clock, self.settings)
        """The tokens of the stream."""
        shared = Shared(
            self.clock, self.settings, self.accepted, self.rejected, self.violations, self.sessions, monotonic
        )
        self._waiting: set[asyncio.Future[None]] = set()
        self.api = Api(shared, keys, Permissions(permissions or {}), self._wake)
        self._server = Server(self.api, Control(self), self.calls, self._wake, port)

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop()

    @property
    def url(self) -> str:
        """The base URL, for `exporters::stripe_meter::endpoints` or the `base_addresses` of the `stripe` package."""
        return self._server.url

    def account(self, name: str | None = None, *, livemode: bool | None = None) -> Account:
        """The state of a connected account, or of the key's own; in the mode of the first key by default."""
        return self.api.account(name, "_live_" in self.api_key if livemode is None else livemode)

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

    def fault(
        self,
        path: str,
        fault: Fault,
        *,
        times: int | None = 1,
        probability: float = 1.0,
        seed: int = 0,
        seconds: float = 1.0,
        method: str | None = None,
    ) -> Rule:
        """Let calls to paths that begin with `path` fail; see `Fault`. `Rule.fired` counts.

        Args:
            times: None for ever, until `clear_faults`.
            probability: with a `seed`, for random failures that are the same in every run.
            seconds: how long the slow ones take, in real time.
        """
        return self.api.faults.add(Rule(path, fault, times, probability, seed, seconds, method))

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

    def clear_faults(self) -> None:
        """Everything works again."""
        self.api.faults.clear()

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Reset every connection for the length of a `with`."""
        self.api.faults.outage = True
        try:
            yield
        finally:
            self.api.faults.outage = False

    async def wait_until(self, condition: Callable[[], bool], timeout: float = 10) -> None:  # noqa: ASYNC109
        """Wait until `condition` is true; it is asked again after every call, and at least every 50 ms.

        Raises:
            TimeoutError: it is still false after `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not condition():
            left = deadline - loop.time()
            if left <= 0:
                raise TimeoutError(
                    f"not so after {timeout} s: {len(self.accepted)} events accepted, {len(self.calls)} calls"
                )
            change: asyncio.Future[None] = loop.create_future()
            self._waiting.add(change)
            # Conditions may look at more than this double, so a change elsewhere is noticed too.
            await asyncio.wait((change,), timeout=min(left, 0.05))
            self._waiting.discard(change)

    def _wake(self) -> None:
        for change in self._waiting:
            if not change.done():
                change.set_result(None)

    def _meter_id(self, event_name: str, account: str | None) -> str:
        meter = self.account(account).meters.named(event_name)
        if meter is None:
            raise KeyError(f"no meter has the event name {event_name}")
        return meter.id
