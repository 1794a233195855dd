"""Tokens of accounts that have installed the app: each is renewed in time, and is on the disk before it is used.

An access token works for an hour. To renew it, the refresh token is given away for a new pair, and may be void from
then on. So the exchange is announced in the ledger, one at a time for an account; the answer is written down in one
transaction in the place of the old pair, and only then used. A crash between Stripe's answer and that commit can lose
the pair: then Stripe refuses the old refresh token, the account is lost, and has to be connected anew.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog

from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.errors import Unavailable
from otel_usageflow.exporters.stripe_meter.connect_keys import KeyRing, Tokens
from otel_usageflow.exporters.stripe_meter.oauth import OAuth, said, told
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.ledger.connections import Connection, Connections, ConnectionState
from otel_usageflow.model.crash_point import reached

_log = structlog.get_logger(__name__)

_AT_ONCE = 4
_AT_LEAST = 60.0
"""Seconds between two renewals that a refused call has asked for."""
_LIFE_USED = 0.8
"""Of a token's life, when it is renewed."""


class _Read(NamedTuple):
    """What our keys make of what stands in the ledger: opening it is too slow to be done again and again."""

    sealed: bytes
    tokens: Tokens | None
    newest: bool
    """Whether the key that is in use now has sealed it, or nothing can be done about it."""


class TokenKeeper:
    """Keeps the tokens of one book."""

    def __init__(
        self,
        ledger: Connections,
        keys: KeyRing,
        oauth: OAuth,
        live: bool,
        now: Callable[[], float],
        backoff: Backoff,
    ) -> None:
        self._ledger, self._keys, self._oauth, self._live = ledger, keys, oauth, live
        self._now, self._backoff = now, backoff
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._wanted: set[str] = set()
        self._stopping = False
        self._read: dict[str, _Read] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._running: set[asyncio.Task[bool]] = set()

    def opened(self, connections: Mapping[str, Connection]) -> dict[str, str]:
        """The access tokens by account, as far as our keys open them."""
        found = {}
        known, self._read = self._read, {}
        for account, connection in connections.items():
            if not connection.usable or not connection.sealed:
                continue
            before = known.get(account)
            new = before is None or before.sealed != connection.sealed
            read = self._read[account] = self._open(connection) if before is None or new else before
            if read.tokens is not None:
                found[account] = read.tokens.access
            elif new:
                _log.error(
                    "connect_tokens_unreadable",
                    account=account,
                    meaning="nothing is sent for this account; its usage is kept",
                    remedy="put the key back that they were encrypted with, behind the present one, "
                    "or make a new link with `otel-usageflow connect url`",
                )
        return found

    def want(self, account: str) -> bool:
        """A call with this account's token was refused: renew it out of turn, but not again and again."""
        if time.monotonic() < self._not_before.get(account, 0.0):
            return False
        self._wanted.add(account)
        return True

    async def renew(self, connections: Mapping[str, Connection]) -> bool:
        """Renew what is due; whether anything has changed."""
        due = [one for one in connections.values() if one.account in self._read and self._is_due(one)]
        tasks = [asyncio.create_task(self._renew(one)) for one in due]
        self._running.update(tasks)
        for task in tasks:
            task.add_done_callback(self._running.discard)
        # An exchange that has begun is not broken off when the service stops: its answer would be lost.
        return any(await asyncio.gather(*map(asyncio.shield, tasks)))

    async def finish(self, patience: float) -> None:
        """Let exchanges that have begun come to their end, for some seconds; no other begins."""
        self._stopping = True
        if self._running:
            await asyncio.wait(list(self._running), timeout=patience)

    def _is_due(self, connection: Connection) -> bool:
        if time.monotonic() < self._not_before.get(connection.account, 0.0):
            return False
        late = connection.renew_at <= self._now() or connection.renewing
        return late or connection.account in self._wanted or not self._read[connection.account].newest

    def _open(self, connection: Connection) -> "_Read":
        tokens = self._keys.open(connection.sealed, connection.account)
        return _Read(connection.sealed, tokens, tokens is None or self._keys.is_newest(connection.sealed))

    async def _renew(self, connection: Connection) -> bool:
        account = connection.account
        read = self._read[account]
        if (tokens := read.tokens) is None:
            return False
        async with self._turns:
            if self._stopping:
                return False
            if not read.newest and connection.renew_at > self._now():
                sealed = self._keys.seal(tokens, account)  # with the key that is in use now
                return await self._ledger.renewed(account, connection.sealed, sealed, connection.renew_at)
            if not await self._ledger.renewing(account, connection.sealed):
                return True
            reached("renew: began")
            try:
                granted = await self._oauth.refresh(tokens.refresh)
            except StripeFailure as error:
                return await self._failed(connection, error)
            reached("renew: answered")
            if granted.account != account or granted.livemode != self._live or not granted.tokens.refresh:
                return await self._lose(connection, "Stripe's answer is about another account or mode")
            self._wanted.discard(account)
            self._failures.pop(account, None)
            self._not_before[account] = time.monotonic() + _AT_LEAST
            await self._write(connection, granted.tokens, self._now() + _LIFE_USED * granted.life)
            reached("renew: durable")
            return True

    async def _write(self, connection: Connection, tokens: Tokens, renew_at: float) -> None:
        """However long the ledger takes: nobody else has these tokens."""
        sealed, pause = self._keys.seal(tokens, connection.account), 0.1
        while True:
            try:
                await self._ledger.renewed(connection.account, connection.sealed, sealed, renew_at)
            except Unavailable as error:
                _log.error("connect_not_written", account=connection.account, why=str(error), retry_in=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, 5.0)
            else:
                return

    async def _failed(self, connection: Connection, error: BaseException) -> bool:
        account = connection.account
        if told(error) == "invalid_grant":
            before = "an earlier exchange of it was interrupted, or " if connection.renewing else ""
            return await self._lose(connection, f"Stripe refuses its refresh token: {before}the app was uninstalled")
        self._failures[account] = self._failures.get(account, 0) + 1
        pause = self._backoff.delay(self._failures[account])
        self._not_before[account] = time.monotonic() + pause
        _log.warning("connect_not_renewed", account=account, why=said(error), retry_in=round(pause, 1))
        return False

    async def _lose(self, connection: Connection, why: str) -> bool:
        now = self._now()
        # Not what was connected anew while Stripe refused the tokens of before.
        lost = await self._ledger.ended(connection.account, ConnectionState.LOST, connection.connected_at, now, why)
        if lost:
            _log.error(
                "connected_account_lost",
                account=connection.account,
                why=why,
                meaning="nothing is sent for it; its usage is kept",
                remedy="make a new link with `otel-usageflow connect url`",
            )
        return True
