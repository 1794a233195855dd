"""Connected accounts while the service runs: the callback, what may be done for whom, and connections that end."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import stripe
import structlog

from otel_usageflow.component import Context
from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.errors import Unavailable
from otel_usageflow.exporters.stripe_meter.access import Access, AppAccess, NotConnected, OAuthAccess, PlatformAccess
from otel_usageflow.exporters.stripe_meter.answers import explained, is_no_access
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.connect_callback import Callback, Desk
from otel_usageflow.exporters.stripe_meter.connect_config import ConnectConfig, key_ring
from otel_usageflow.exporters.stripe_meter.connect_events import deauthorizations
from otel_usageflow.exporters.stripe_meter.connect_tokens import TokenKeeper
from otel_usageflow.exporters.stripe_meter.oauth import OAuth
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure, opened
from otel_usageflow.ledger.connections import Connection, Connections, ConnectionState
from otel_usageflow.model.outcome import Halted

_log = structlog.get_logger(__name__)

_LOOK = 2.0
"""Seconds between two looks for what a command has changed."""
_EVENTS = 3_600.0
"""Seconds between two reads of the platform's events: 720 of the 10,000 reads a month that Stripe allows at least,
which the customers and reports of the platform itself need too. A refused call and a webhook tell sooner."""
_EVENTS_KEPT = 29 * 86_400
"""Stripe lists events of 30 days."""
_OVERLAP = 600
_FINISH = 5.0
"""Seconds that an exchange may take when the service stops."""
_TELL_AGAIN = 3600.0


class Connecting:
    """Everything about `connect` of one exporter. `access` says for whom calls may be made."""

    def __init__(
        self, config: StripeMeterConfig, connect: ConnectConfig, context: Context, ledger: Connections, book: str
    ) -> None:
        self._config, self._connect, self._ledger, self._book = config, connect, ledger, book
        self._context = context
        self._now: Callable[[], float] = context.clock
        self.access: AppAccess | OAuthAccess = AppAccess() if connect.kind == "app" else OAuthAccess()
        self._connections: Mapping[str, Connection] = {}
        self._changed = asyncio.Event()
        self._told: dict[str, float] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        path = f"exporters::{self._context.id}::connect"
        keys = key_ring(self._connect, path)
        async with AsyncExitStack() as starting:
            self._client: stripe.StripeClient = await starting.enter_async_context(opened(self._config))
            oauth = OAuth(self._client, self._connect)
            live = self._config.mode == "live"
            backoff: Backoff = self._config.retry_on_failure.backoff
            self._tokens = TokenKeeper(self._ledger, keys, oauth, live, self._now, backoff)
            for link in await self._ledger.interrupted(self._now()):
                _log.error(
                    "connect_interrupted",
                    link_by=link.actor,
                    meaning="the service ended while a code was exchanged; whether Stripe connected the account is "
                    "not known, and the code is not used again, that would revoke it",
                    remedy="make a new link with `otel-usageflow connect url`",
                )
            await self._read()
            desk = Desk(
                self._book,
                self._config.mode,
                self._connect.kind,
                keys,
                self._ledger,
                oauth,
                self._now,
                self._read,
            )
            self._callback = Callback(desk)
            admin: Any = self._context.extensions[self._connect.admin]
            summary = f"where owners of Stripe accounts come back ({self._context.id})"
            admin.mount("GET", self._connect.path, self._callback.answer, summary, public=True)
            self._stack = starting.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(self._callback.finish(_FINISH), self._tokens.finish(_FINISH))
        await self._stack.aclose()

    async def follow(self) -> None:
        """Take up what commands change, renew tokens, and hear of connections that end; until it is cancelled."""
        events_at, since = 0.0, 0
        while True:
            try:
                await self._read()
                if await self._tokens.renew(self._connections):
                    await self._read()
            except Unavailable as error:
                _log.warning("connections_not_read", why=str(error))
            if any(one.usable for one in self._connections.values()) and time.monotonic() >= events_at:
                since, pause = await self._hear(since)
                events_at = time.monotonic() + pause
            self._changed.clear()
            try:
                async with asyncio.timeout(_LOOK):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def deauthorized(self, account: str, at: float, why: str = "its owner ended the connection") -> bool:
        """Stripe says that a connection is over: `account.application.deauthorized`, polled or by webhook.

        Args:
            account: whose.
            at: when, unix seconds, by Stripe's clock; what was connected later goes on.
            why: for the audit log.

        Returns:
            Whether there was one; it is marked as gone, durably, and nothing more is sent for it.

        Raises:
            Unavailable: it could not be written down; the event has to be told again.
        """
        was = await self._ledger.ended(account, ConnectionState.DEAUTHORIZED, at, self._now(), why)
        if was:
            await self._read()
            _log.error(
                "connected_account_gone",
                account=account,
                why=why,
                meaning="nothing is sent for it any more; its usage is kept",
                remedy="if this was a mistake, make a new link with `otel-usageflow connect url`",
            )
        return was

    def obstacle(self, account: str) -> Halted | None:
        """Why nothing may be sent for an account, without asking Stripe; None if nothing is known against it."""
        try:
            self.access.v1(account)
        except NotConnected as error:
            return Halted(str(error), error.remedy)
        return None

    def noticed(self, account: str, error: BaseException) -> None:
        """A call for an account was refused; say or do what helps."""
        if not account or not isinstance(error, stripe.StripeError):
            return
        if self._connect.kind == "app" and error.http_status == 401:
            if self._tokens.want(account):
                self._changed.set()
        elif is_no_access(error) and time.monotonic() >= self._told.get(account, 0.0):
            self._told[account] = time.monotonic() + _TELL_AGAIN
            _log.error(
                "connected_account_refused",
                account=account,
                why=explained(error),
                meaning="nothing can be sent for it; its usage is kept, and it is tried again from time to time",
                remedy="if its owner has ended the connection: `otel-usageflow connect url`; if the platform's key "
                "was changed: is it of the same platform?",
            )

    async def _read(self) -> None:
        self._connections = await self._ledger.all()
        self.access.learn(self._connections, self._tokens.opened(self._connections))

    async def _hear(self, since: int) -> tuple[int, float]:
        """Read the platform's events; returns since when to read the next time, and in how many seconds."""
        oldest = min(one.connected_at for one in self._connections.values() if one.usable)
        begin = int(max(since, oldest - _OVERLAP, self._now() - _EVENTS_KEPT))
        try:
            for ended in await deauthorizations(self._client, begin, self._config.mode == "live"):
                await self.deauthorized(ended.account, ended.at)
        except Unavailable:
            return since, _EVENTS
        except StripeFailure as error:
            if isinstance(error, stripe.PermissionError):
                _log.warning(
                    "deauthorizations_not_readable",
                    why=explained(error),
                    remedy="give the key the permission event_read; until then a refused call tells",
                )
            return since, _EVENTS
        return int(self._now()) - _OVERLAP, _EVENTS


def access_of(connecting: Connecting | None) -> Access:
    """For whom calls may be made: for everybody without `connect`."""
    return PlatformAccess() if connecting is None else connecting.access
