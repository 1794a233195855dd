"""Sessions of the stream: one an account, shared by all its calls, renewed before it ends.

A session is a token that lives 15 minutes (docs.stripe.com/api/v2/billing-meter-stream). How long it lives is told by
the difference of two times of Stripe's clock, and measured by our monotonic one, so that no clock needs to be right.
Tokens are secrets: they stay in memory.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import SecretStr

from otel_usageflow.exporters.stripe_meter.wire import StripeFailure

USED = 0.8
"""Share of a session's life after which it is renewed."""
_ASSUMED_LIFE = 900.0
_LONGEST_LIFE = 86_400.0
_PATIENCE = 0.02
"""Share of a session's life between two tries to renew one that still works."""


class Session(NamedTuple):
    """What Stripe gave out. `life` is seconds."""

    token: SecretStr
    life: float


def session_of(facts: Mapping[str, Any]) -> Session:
    """Read a session; one whose times cannot be read is taken to live as long as documented.

    Raises:
        KeyError, ValueError: it has no token.
    """
    token = facts["authentication_token"]
    if not isinstance(token, str) or not token:
        raise ValueError("the session has no token")
    try:
        life = _seconds(facts["expires_at"]) - _seconds(facts["created"])
    except (KeyError, TypeError, ValueError):
        life = _ASSUMED_LIFE
    return Session(SecretStr(token), life if 0 < life <= _LONGEST_LIFE else _ASSUMED_LIFE)


class _Held(NamedTuple):
    session: Session
    since: float


class Sessions:
    """The sessions of all accounts of one exporter.

    Args:
        make: makes a session for an account.
        clock: monotonic seconds.
    """

    def __init__(
        self, make: Callable[[str], Awaitable[Session]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._not_before: dict[str, float] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self.made = 0
        """How many were made since the start."""

    async def token(self, account: str) -> SecretStr:
        """A token to use now. Whoever comes while one is made waits for it.

        Raises:
            StripeFailure: there is none, and none could be made.
        """
        if self._fresh(account):
            return self._held[account].session.token
        async with self._turns.setdefault(account, asyncio.Lock()):
            if not self._fresh(account):
                await self._renew(account)
        return self._held[account].session.token

    def expired(self, account: str, token: SecretStr) -> None:
        """Stripe takes this token no more. If it has been renewed since, nothing needs to be done."""
        held = self._held.get(account)
        if held is not None and held.session.token == token:
            del self._held[account]

    def _fresh(self, account: str) -> bool:
        held = self._held.get(account)
        if held is None:
            return False
        now = self._clock()
        return now < held.since + USED * held.session.life or (
            now < self._not_before.get(account, 0.0) and now < held.since + held.session.life
        )

    async def _renew(self, account: str) -> None:
        asked = self._clock()  # its life may have begun any moment after this one
        try:
            session = await self._make(account)
        except StripeFailure:
            held = self._held.get(account)
            now = self._clock()
            if held is None or now >= held.since + held.session.life:
                raise
            self._not_before[account] = now + _PATIENCE * held.session.life  # the old one still works
        else:
            self._held[account] = _Held(session, asked)
            self.made += 1


def _seconds(moment: object) -> float:
    if isinstance(moment, int | float) and not isinstance(moment, bool):
        return float(moment)
    return datetime.fromisoformat(str(moment)).timestamp()
