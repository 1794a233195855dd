"""The Stripe double as tests use it: started in the test's own event loop, steered and read by plain calls."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from types import TracebackType
from typing import Self

from otel_usageflow.testing.stripe.account import Shared, Violation
from otel_usageflow.testing.stripe.api import Api
from otel_usageflow.testing.stripe.book import MeterEvent
from otel_usageflow.testing.stripe.call_log import CallLog
from otel_usageflow.testing.stripe.certificates import Certificate
from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.connections import Connections
from otel_usageflow.testing.stripe.control import Control
from otel_usageflow.testing.stripe.faults import Fault, Rule
from otel_usageflow.testing.stripe.message import Call
from otel_usageflow.testing.stripe.permissions import Permissions
from otel_usageflow.testing.stripe.rejections import Rejected
from otel_usageflow.testing.stripe.server import Server
from otel_usageflow.testing.stripe.sessions import Sessions
from otel_usageflow.testing.stripe.settings import Settings
from otel_usageflow.testing.stripe.steered import Steered
from otel_usageflow.testing.stripe.webhook_endpoints import Notice
from otel_usageflow.testing.stripe.webhooks import Webhooks

DEFAULT_KEY = "sk_test_double"
DEFAULT_CLIENTS = ("ca_test_double", "ca_live_double")


class StripeDouble(Steered):
    """A stateful Stripe on 127.0.0.1, for the length of an `async with`.

    Args:
        api_key: the key (or keys) that it knows; `_live_` in a key means live mode.
        permissions: key -> what it may do, such as `{"customer_read"}`; a key that is not in here may do everything.
        client_ids: of the platform, for OAuth; `_live_` in one means live mode.
        clock: decides ages, lags and what is forgotten; the real time by default.
        settings: latency, limits, lags; may be changed while it runs.
        certificate: shown over TLS, where the double is to be `https`; see `authority`.
        port: 0 picks a free one.
        monotonic: seconds, for the rate limits only.
    """

    def __init__(
        self,
        api_key: str | Sequence[str] = DEFAULT_KEY,
        *,
        permissions: Mapping[str, Set[str]] | None = None,
        client_ids: Sequence[str] = DEFAULT_CLIENTS,
        clock: Clock | None = None,
        settings: Settings | None = None,
        certificate: Certificate | None = None,
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
        self.calls: deque[Call] = CallLog(self.settings.keep_calls)
        """The last calls, whatever came of them."""
        self.sessions = Sessions(self.clock, self.settings)
        """The tokens of the stream."""
        shared = Shared(
            self.clock,
            self.settings,
            self.accepted,
            self.rejected,
            self.violations,
            self.sessions,
            Connections(self.settings),
            self._publish,
            monotonic,
        )
        self._waiting: set[asyncio.Future[None]] = set()
        self.api = Api(shared, keys, Permissions(permissions or {}), client_ids, self._wake)
        self.webhooks = Webhooks(self.clock, self.settings, self.api.connections)
        self._server = Server(self.api, Control(self), self.calls, self._wake, port, certificate)

    async def __aenter__(self) -> Self:
        await self._server.start()
        await self.webhooks.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.webhooks.stop()
        await self._server.stop()

    @property
    def url(self) -> str:
        """The base URL, for `exporters::stripe_meter::endpoints` or the `base_addresses` of the `stripe` package."""
        return self._server.url

    @property
    def authority(self) -> Path | None:
        """The file with the authority that a client is to trust (`stripe.ca_bundle_path`); None without TLS."""
        return self._server.authority

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

    @contextlib.asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Refuse every connection for the length of an `async with`, as if no Stripe were there."""
        await self._server.close()
        try:
            yield
        finally:
            await self._server.listen()

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

    def _publish(self, notice: Notice) -> None:
        self.webhooks.publish(notice)

    def _wake(self) -> None:
        for change in self._waiting:
            if not change.done():
                change.set_result(None)
