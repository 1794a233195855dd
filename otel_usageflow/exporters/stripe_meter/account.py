"""What is known of one Stripe account: its meters and its customers, kept up to date in the background."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

import structlog

from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.errors import Unavailable
from otel_usageflow.exporters.stripe_meter.answers import explained
from otel_usageflow.exporters.stripe_meter.api import StripeApi
from otel_usageflow.exporters.stripe_meter.directory import Directory
from otel_usageflow.exporters.stripe_meter.directory_rhythm import Hurry
from otel_usageflow.exporters.stripe_meter.feeding import Meter, Unfit, feeding, refusals
from otel_usageflow.exporters.stripe_meter.recognition import is_another
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.identity import AnotherAccount
from otel_usageflow.ledger.ledger import Ledger
from otel_usageflow.model.usage import Reason, Terms

_log = structlog.get_logger(__name__)

_TICK = 1.0
_SOONEST = 5.0
"""Seconds between two reads of the meters."""
_METERS_IDLE = 6
"""Of `refresh`: meters change rarely, and Stripe refuses what goes to one that is gone."""


class Account:
    """Follows one account. `name` is the connected account, or empty for the key's own."""

    def __init__(
        self,
        api: StripeApi,
        ledger: Ledger,
        name: str,
        terms: Sequence[Terms],
        refresh: timedelta,
        backoff: Backoff,
        wake_sender: Callable[[], None],
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._ledger = ledger
        self.name = name
        self.event_names = sorted({term.event_name for term in terms})
        self._measured = _measured(terms)
        self._refresh = refresh.total_seconds()
        self._backoff = backoff
        self._wake_sender = wake_sender
        self.directory = Directory(api, ledger, name, sorted(_fields(terms)), refresh, wall, clock)
        self._clock = clock
        self._meterless = Hurry(clock)
        self._meters: dict[str, Meter] | None = None
        self._meters_at = -math.inf
        self._told: dict[str, str] = {}
        self._more = False
        """Whether the directory has more to do at once."""

    def meter(self, event_name: str) -> Meter:
        """The meter to send to. For one that is no longer known, Stripe's defaults: it will say no by itself."""
        known = self._meters or {}
        return known.get(event_name) or Meter(event_name, Formula.SUM, active=True)

    @property
    def meters_known(self) -> bool:
        """Whether the meters were read since the start: before, nobody knows which keys an event must have."""
        return self._meters is not None

    def event_names_by_meter(self) -> dict[str, str]:
        """Meter id -> event name."""
        return {meter.id: name for name, meter in (self._meters or {}).items()}

    def feedings(self) -> dict[tuple[str, str], Formula | Reason]:
        """How each event name is fed now; without an entry it is not known yet."""
        if self._meters is None:
            return {}
        answers = {}
        for name in {*self.event_names, *self._meters}:
            answer = self._feeding(name)
            answers[self.name, name] = answer.reason if isinstance(answer, Unfit) else answer
        return answers

    async def unfit_meters(self, terms: Sequence[Terms]) -> list[Unfit]:
        """Read the meters; of those that these terms name, return the ones that exist and can never be fed correctly.

        Raises:
            StripeFailure: they could not be read.
        """
        await self._read_meters()
        return self.known_unfit_meters(terms)

    def known_unfit_meters(self, terms: Sequence[Terms]) -> list[Unfit]:
        """The same as far as the meters are known."""
        measured = _measured(terms)
        names = sorted({term.event_name for term in terms})
        return refusals(self._feeding(name, ones=name not in measured) for name in names)

    def expect(self, terms: Sequence[Terms]) -> None:
        """Follow what these terms name, too. Usage under those of before may still come, or wait."""
        names = {term.event_name for term in terms}
        self.event_names = sorted({*self.event_names, *names})
        self._measured = _measured(terms) | (self._measured - names)
        self.directory.follow_also(_fields(terms))
        self._meters_at = -math.inf  # what can be fed now, and could not before, is to be found out

    async def follow(self) -> None:
        """Keep everything up to date until cancelled."""
        await self._retrying(self.directory.load)
        while True:
            await self._retrying(self.update)
            self._wake_sender()
            if not self._more:
                await asyncio.sleep(_TICK)

    async def _retrying(self, work: Callable[[], "asyncio.Future[None] | object"]) -> None:
        failures = 0
        while True:
            try:
                await work()  # type: ignore[misc]
            except (*StripeFailure, Unavailable) as error:
                failures += 1
                pause = min(self._backoff.delay(failures), 60.0)
                log = _log.warning if failures == 1 else _log.debug
                log("stripe_not_readable", account=self.name or "own", why=explained(error), retry_in=round(pause, 1))
                await asyncio.sleep(pause)
            else:
                if failures:
                    _log.info("stripe_readable_again", account=self.name or "own")
                return

    async def update(self) -> None:
        """Do once whatever is due now.

        Raises:
            StripeFailure: Stripe did not answer; what was learned before is kept.
        """
        self._more = False
        if await self._meters_are_due():
            await self._read_meters()
        self._more = await self.directory.update()

    async def _meters_are_due(self) -> bool:
        since = self._clock() - self._meters_at
        if self._meters is None or since >= self._refresh * _METERS_IDLE:
            return True
        waiting = await self._ledger.waiting([Reason.NO_METER], 100)
        self._meterless.see({(one.account, one.event_name) for one in waiting if one.account == self.name})
        return (pause := self._meterless.pause) is not None and since >= max(pause, _SOONEST)

    async def _read_meters(self) -> None:
        meters = await self._api.meters(self.name)
        await self._recognise(meters)
        # An event name can be on an inactive and on an active meter; the active one counts.
        self._meters = {meter.event_name: meter for meter in sorted(meters, key=lambda meter: meter.active)}
        self._meters_at = self._clock()
        self._meterless.looked()
        for name in self.event_names:
            self._tell(name, self._feeding(name))
        for (account, name), answer in self.feedings().items():
            if isinstance(answer, Formula):  # also if it looked so before: Stripe may have refused in between
                await self._ledger.reopen_meter(account, name)

    async def _recognise(self, meters: Sequence[Meter]) -> None:
        """Make sure that the key's own account is the one from before; a connected one is told by its name.

        Raises:
            AnotherAccount: it is not. Nothing of this ledger is sent to it.
        """
        if self.name:
            return
        known = await self._ledger.known_meters("")
        if await is_another(self._api, known, meters):
            self._meters = None
            raise AnotherAccount
        if new := {meter.id for meter in meters if meter.event_name in self.event_names} - known:
            await self._ledger.remember_meters("", new)

    def _feeding(self, name: str, *, ones: bool | None = None) -> Formula | Unfit:
        ones = name not in self._measured if ones is None else ones
        return feeding((self._meters or {}).get(name), name, self.name, ones=ones)

    def _tell(self, name: str, answer: Formula | Unfit) -> None:
        """Say once what is wrong with a meter, and once when it is right again."""
        if self._told.get(name, "") == (text := str(answer) if isinstance(answer, Unfit) else ""):
            return
        self._told[name] = text
        account = self.name or "own"
        if isinstance(answer, Unfit):
            _log.error("meter_cannot_be_fed", account=account, event_name=name, why=answer.why, remedy=answer.remedy)
        else:
            _log.info("meter_can_be_fed_now", account=account, event_name=name)


def _measured(terms: Iterable[Terms]) -> set[str]:
    """The event names under which a request may count something else than 1."""
    return {term.event_name for term in terms if term.quantity != 1}


def _fields(terms: Iterable[Terms]) -> set[str]:
    return {term.metadata_field for term in terms if term.metadata_field is not None}
