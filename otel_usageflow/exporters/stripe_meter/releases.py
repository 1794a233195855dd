"""What is released by itself: a loop that looks, now and then, whether the cause of a quarantine is gone."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

import structlog

from otel_usageflow.errors import StorageError, Unavailable
from otel_usageflow.exporters.stripe_meter.account import Account
from otel_usageflow.exporters.stripe_meter.rhythm import Rhythm
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.releases import Releases, Wanting
from otel_usageflow.model.usage import Reason, Terms

_log = structlog.get_logger(__name__)

_SELDOM = 60
"""Times the pause between two looks, at most: what reads much is done at the start, soon after, and then hourly."""
_AGAIN = 10
"""Times the pause before an event that Stripe has refused again is tried once more."""


class Releaser:
    """Releases what one ledger holds, when it can be billed.

    Args:
        releases: the ledger's part of it.
        accounts: what is known of each account.
        terms: what the policies bill that there are now.
        now: unix seconds.
        wake_sender: there may be something to freeze.
    """

    def __init__(
        self,
        releases: Releases,
        accounts: Mapping[str, Account],
        terms: Sequence[Terms],
        now: Callable[[], float],
        rhythm: Rhythm,
        wake_sender: Callable[[], None],
    ) -> None:
        self._releases = releases
        self._accounts = accounts
        self._terms = terms
        self._now = now
        self._rhythm = rhythm
        self._wake_sender = wake_sender
        self._changed = asyncio.Event()

    def expect(self, terms: Sequence[Terms]) -> None:
        """These are the terms now; what that mends is looked for at once."""
        self._terms = terms
        self._changed.set()

    async def follow(self) -> None:
        """Look until cancelled."""
        looks, due, pause = 0, 0, 1
        while True:
            if self._changed.is_set():
                self._changed.clear()
                due, pause = looks, 1
            try:
                if looks >= due:
                    await self.look_at_all()
                    due, pause = looks + pause, min(2 * pause, _SELDOM)
                await self.look_at_refused()
            except (StorageError, Unavailable) as error:
                _log.warning("ledger_unavailable", error=str(error))
            looks += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rhythm.release):
                    await self._changed.wait()

    async def look_at_all(self) -> None:
        """Usage under terms that are gone, and usage that a wrong clock took for too old."""
        requests = await self._releases.refile(self._terms, self._now())
        if requests:
            _log.info("usage_refiled", requests=requests, meaning="its policies bill under other terms now")
        young = await self._releases.release_young(self._now())
        if young:
            _log.info("usage_released", entries=young, meaning="not too old by the present clock")
        if requests or young:
            self._wake_sender()

    async def look_at_refused(self) -> None:
        """Events that were refused for want of a customer or a meter that is there now."""
        after = _AGAIN * self._rhythm.release
        for wanting in await self._releases.wanting(self._now(), after):
            if self._is_there(wanting):
                events = await self._releases.release_wanting(wanting, self._now(), after)
                _log.info(
                    "meter_events_released",
                    account=wanting.account or "own",
                    event_name=wanting.event_name,
                    events=events,
                )

    def _is_there(self, wanting: Wanting) -> bool:
        if wanting.reason is Reason.NO_CUSTOMER:
            return wanting.listed
        account = self._accounts.get(wanting.account)
        known = account.feedings() if account is not None else {}
        return isinstance(known.get((wanting.account, wanting.event_name)), Formula)
