"""The callback: the owner of an account comes back from Stripe, and the code in the address is exchanged once.

What it keeps to:
1. Nothing is done for a state that we have not signed, to the letter, for this exporter in this mode.
2. The link is marked as taken, on the disk, before its code is exchanged; whoever finds it taken never exchanges.
   So a reload, a second tab, a replay or a crash cannot use a code twice, which would revoke the connection. Nor
   can somebody who has seen a code use it up with a link of their own: its digest is written down with the link.
3. An exchange without an answer is not repeated. It is said, and the remedy is a new link.
4. What must not be seen is in no page, no log and no error: states, codes, tokens.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from aiohttp import web

from otel_usageflow.errors import Unavailable
from otel_usageflow.exporters.stripe_meter import connect_page as pages
from otel_usageflow.exporters.stripe_meter.connect_keys import KeyRing
from otel_usageflow.exporters.stripe_meter.connect_state import Forged, read
from otel_usageflow.exporters.stripe_meter.oauth import APP_SCOPE, Granted, OAuth, is_definite, told
from otel_usageflow.exporters.stripe_meter.oauth import said as said_by
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.ledger.connections import Claim, Connection, Connections, ConnectionState, Link, Outcome
from otel_usageflow.model.crash_point import reached

_log = structlog.get_logger(__name__)

_NEW_LINK = "make a new link with `otel-usageflow connect url`"
_MOST_SAID = 300
_SILENCE = 5.0
"""Seconds between two lines about states that were refused."""
_PATIENCE = 30.0
"""Seconds for which the ledger is asked again to take what Stripe has granted."""
_PARAMETERS = ("state", "code", "error", "error_description")


@dataclass(frozen=True, slots=True)
class Desk:
    """What the callback needs. `now` is unix seconds."""

    book: str
    mode: str
    kind: str
    keys: KeyRing
    ledger: Connections
    oauth: OAuth
    now: Callable[[], float]
    changed: Callable[[], Awaitable[None]]
    """Called when there is a new connection."""


class Callback:
    """Answers those who come back."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._exchanges: dict[bytes, asyncio.Task[web.Response]] = {}
        self._silent_until = 0.0
        self._untold = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One visit."""
        values = {name: request.query.getall(name, []) for name in _PARAMETERS}
        if any(len(given) > 1 for given in values.values()):
            return pages.incomplete()
        said = {name: given[0] for name, given in values.items() if given}
        try:
            state = read(said.get("state", ""), self._desk.keys)
        except Forged:
            self._tell_refused("it was not signed with our keys")
            return pages.not_ours()
        if state.book != self._desk.book:
            self._tell_refused(f"it was made for {state.book}")
            return pages.foreign()
        code = said.get("code", "")
        if "error" not in said and not (code and code.isascii() and code.isprintable()):
            return pages.incomplete()
        try:
            return await self._take(state.nonce, code, said)
        except Unavailable as error:
            _log.error("connect_not_written", why=str(error), meaning="nothing was exchanged; the link is still good")
            return pages.not_now()

    def _tell_refused(self, why: str) -> None:
        """Anybody can call the callback as often as they like: the log has the first, and then how many came."""
        if time.monotonic() < self._silent_until:
            self._untold += 1
            return
        _log.warning("connect_state_refused", book=self._desk.book, why=why, not_told_before=self._untold)
        self._silent_until, self._untold = time.monotonic() + _SILENCE, 0

    async def finish(self, patience: float) -> None:
        """Let exchanges that have begun come to their end, for some seconds."""
        if self._exchanges:
            await asyncio.wait(list(self._exchanges.values()), timeout=patience)

    async def _take(self, nonce: bytes, code: str, said: dict[str, str]) -> web.Response:
        denied = "error" in said
        desk = self._desk
        outcome, digest = (Outcome.DENIED, b"") if denied else (Outcome.TAKEN, hashlib.sha256(code.encode()).digest())
        claim, link = await desk.ledger.claim(nonce, outcome, desk.now(), digest)
        if claim is Claim.YOURS and link is not None:
            if denied:
                return await self._denied(link, said)
            reached("connect: claimed")
            task = asyncio.create_task(self._exchange(link, code), name=f"{desk.book} exchange")
            self._exchanges[nonce] = task
            task.add_done_callback(lambda _: self._exchanges.pop(nonce, None))
            return await asyncio.shield(task)
        if claim is Claim.USED and link is not None:
            if (running := self._exchanges.get(nonce)) is not None:
                await asyncio.shield(running)
                link = (await desk.ledger.claim(nonce, outcome, desk.now(), digest))[1] or link
            else:
                self._tell_refused(f"its link was used before: {link.outcome}")
            return pages.used(link, desk.mode)
        self._tell_refused(_WHY[claim])
        page = {Claim.EXPIRED: pages.expired, Claim.FOREIGN: pages.foreign, Claim.REPLAYED: pages.replayed}
        return page.get(claim, pages.not_ours)()

    async def _denied(self, link: Link, said: dict[str, str]) -> web.Response:
        why = _clean(said.get("error_description") or said["error"])
        _log.warning("connect_denied", book=self._desk.book, why=why, error=_clean(said["error"]), link_by=link.actor)
        await self._conclude(link, Outcome.DENIED, why)
        return pages.denied(why)

    async def _exchange(self, link: Link, code: str) -> web.Response:
        desk = self._desk
        try:
            granted = await desk.oauth.exchange(code)
        except StripeFailure as error:
            # Only the code of the error, or our own words: a description could quote what was sent.
            if is_definite(error):
                why = f"Stripe does not accept the code ({_clean(told(error))})"
                _log.error("connect_refused", book=desk.book, why=said_by(error), remedy=_NEW_LINK)
                await self._conclude(link, Outcome.REFUSED, why)
                return pages.refused(f"{why}. It may have expired.")
            _log.error(
                "connect_outcome_unknown",
                book=desk.book,
                why=said_by(error),
                meaning="Stripe may have connected the account; the code is not used again, that would revoke it",
                remedy=_NEW_LINK,
            )
            await self._conclude(link, Outcome.UNKNOWN, "Stripe's answer to the exchange did not arrive")
            return pages.unknown()
        reached("connect: exchanged")
        if why := unfit(granted, desk.mode, desk.kind):
            _log.error("connect_refused", book=desk.book, account=granted.account, why=why, remedy=_NEW_LINK)
            await self._conclude(link, Outcome.REFUSED, why)
            return pages.refused(f"{granted.account}: {why}.")
        if not await self._store(link, granted):
            return pages.unknown()
        if link.account and link.account != granted.account:
            _log.warning("connect_other_account", expected=link.account, account=granted.account)
        _log.info("account_connected", account=granted.account, mode=desk.mode, kind=desk.kind, link_by=link.actor)
        await desk.changed()
        return pages.connected(granted.account, desk.mode, link.account)

    async def _store(self, link: Link, granted: Granted) -> bool:
        desk = self._desk
        now = desk.now()
        app = desk.kind == "app"
        connection = Connection(
            account=granted.account,
            kind=desk.kind,
            scope=granted.scope,
            state=ConnectionState.CONNECTED,
            connected_at=granted.at or now,
            changed_at=now,
            actor=link.actor,
            # With Connect the platform's key acts for the account: what is not needed is not kept.
            sealed=desk.keys.seal(granted.tokens, granted.account) if app else b"",
            renew_at=now + 0.8 * granted.life if app else 0.0,
        )
        if await _until_written(lambda: desk.ledger.connected(link.nonce, connection, now)):
            reached("connect: durable")
            return True
        _log.error(
            "connect_not_written",
            account=granted.account,
            meaning="Stripe has connected the account, and the ledger could not take it",
            remedy=f"let the ledger be written again, then {_NEW_LINK}",
        )
        return False

    async def _conclude(self, link: Link, outcome: Outcome, became: str) -> None:
        desk = self._desk
        await _until_written(lambda: desk.ledger.conclude(link.nonce, outcome, became, desk.now()))


async def _until_written(change: Callable[[], Awaitable[None]]) -> bool:
    """Try for a while; whether it was written."""
    pause = 0.1
    while True:
        try:
            await change()
        except Unavailable:
            if pause > _PATIENCE / 4:
                return False
            await asyncio.sleep(pause)
            pause *= 2
        else:
            return True


def unfit(granted: Granted, mode: str, kind: str) -> str:
    """Why what was granted cannot be used by an exporter of this mode and kind; empty if it can."""
    if granted.livemode != (mode == "live"):
        got = "live" if granted.livemode else "test"
        return f"it was connected in {got} mode, and this service works in {mode} mode"
    needed = APP_SCOPE if kind == "app" else "read_write"
    if granted.scope != needed:
        return f"it was connected with the scope {_clean(granted.scope) or 'none'}, and {needed} is needed"
    if kind == "app" and not granted.tokens.refresh:
        return "no refresh token came with it"
    return ""


_WHY = {
    Claim.EXPIRED: "its link has expired",
    Claim.FOREIGN: "its link was made for another exporter or mode",
    Claim.UNKNOWN: "its link is not in this ledger",
    Claim.REPLAYED: "its code was exchanged with another link; somebody may have copied it out of a browser or a log",
}


def _clean(text: str) -> str:
    """What somebody else wrote, short and without anything that a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text[:_MOST_SAID]).strip()
