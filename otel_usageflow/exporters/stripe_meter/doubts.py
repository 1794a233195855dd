"""Settles events of unknown outcome by the summaries of their meter, in the background, account by account.

An event is asked about when nothing else of its customer and minute is under way, and when all of it is older than
the summaries may be late. What the summary shows decides; what it does not show stays as it is, and is asked again
after longer and longer pauses. The same way the events are found that a report of errors did not name.
"""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

import structlog

from otel_usageflow.errors import Unavailable
from otel_usageflow.exporters.stripe_meter.answers import explained
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.rhythm import Rhythm
from otel_usageflow.exporters.stripe_meter.summaries import Summaries
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.ledger.charge import MINUTE, STRIPE_PAST
from otel_usageflow.ledger.doubt import Concluded, Doubts, OpenReport, Place
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.judge import judge

_log = structlog.get_logger(__name__)

MOST_PLACES = 500
"""Summaries that are read for one report at the most; it is about an hour's worth or two."""
_DECIDE = (
    "compare with Stripe, then say `otel-usageflow reconcile --counted IDENTIFIER` or `--not-counted IDENTIFIER`, "
    "with `--because`"
)
_COMPARE = "run `otel-usageflow reconcile`: it shows where Stripe has less than was sent"


class Side(Protocol):
    """What the settler asks of its account."""

    name: str

    def meter(self, event_name: str) -> Meter:
        """The meter of an event name."""


class Settler:
    """Asks about one account.

    Args:
        account: gives the meters.
        now: unix seconds.
        reports_read: whether it is known what Stripe reported in the last while. An event that Stripe had taken and
            not counted would otherwise make another one look counted.
    """

    def __init__(
        self,
        ledger: Doubts,
        summaries: Summaries,
        account: Side,
        now: Callable[[], float],
        rhythm: Rhythm,
        reports_read: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._summaries = summaries
        self._account = account
        self._now = now
        self._rhythm = rhythm
        self._reports_read = reports_read
        self._pauses: dict[object, float] = {}
        self._not_before: dict[object, float] = {}

    async def follow(self) -> None:
        """Settle what can be settled until cancelled."""
        while True:
            try:
                await self.look()
            except (*StripeFailure, Unavailable) as error:
                _log.warning("doubts_not_settled", account=self._account.name or "own", why=explained(error))
                await asyncio.sleep(self._rhythm.look)
            await asyncio.sleep(self._rhythm.look)

    async def look(self) -> None:
        """Ask about everything whose time has come.

        Raises:
            StripeFailure, Unavailable: Stripe or the ledger could not be read.
        """
        if not self._reports_read():
            return
        for place in await self._ledger.doubtful(self._account.name):
            await self._settle(place)
        now, delay = self._now(), self._rhythm.summary_delay
        reports = await self._ledger.open_reports(self._account.name)
        due = (report for report in reports if now >= report.validation_end + delay and self._is_time(report))
        if (report := next(due, None)) is not None:  # one at a time: events of unknown outcome go before them
            await self._search(report)

    async def _settle(self, place: Place) -> bool:
        """Ask about a place; return whether nothing about it is open."""
        if not self._is_time(place):
            return False
        now, delay = self._now(), self._rhythm.summary_delay
        asked = await self._ledger.question(place, now, delay)
        if asked is None:
            return False
        meter = self._account.meter(place.event_name)
        if not meter.id or meter.formula not in tuple(Formula):
            self._postpone(place, "the meter is not known", now, count=len(asked.candidates))
            return False
        try:
            read = await self._summaries.summaries(
                place.account, meter.id, place.customer, place.minute, place.minute + MINUTE
            )
        except StripeFailure as error:
            self._postpone(place, f"its summary cannot be read: {explained(error)}", now, count=len(asked.candidates))
            return False
        reported = sum((summary.value for summary in read), Decimal(0))
        verdict = judge(reported, Formula(meter.formula), asked.known, asked.candidates)
        done = await self._ledger.conclude(asked, verdict, reported, now, delay)
        if done is None:
            return False
        _tell(place, done)
        if done.open:
            why = "the meter's summary fits no explanation, or several: other programs may send usage as well"
            self._postpone(place, why, now, count=len(done.open))
            return False
        self._forget(place)
        return True

    async def _search(self, report: OpenReport) -> None:
        """Look for the events that a report did not name, and close it if nothing is left to look at."""
        if self._now() - report.validation_end > STRIPE_PAST:
            self._tell_report(report, "it is too old to be acted upon, and is given up")
            await self._ledger.close_report(report, self._now())
            return
        places = await self._ledger.suspected(self._account.name, report, MOST_PLACES + 1)
        if len(places) > MOST_PLACES:
            self._tell_report(report, f"over {MOST_PLACES} customers and minutes could be meant")
            return
        settled = [await self._settle(place) for place in places]
        left = next((one for one in await self._ledger.open_reports(self._account.name) if _same(one, report)), None)
        if left is not None and not all(settled):
            self._tell_report(report, "not all customers and minutes that could be meant could be decided")
            return
        if left is not None:
            _log.warning(
                "errors_of_other_programs",
                account=self._account.name or "own",
                report=report.report,
                code=report.code,
                errors=left.missing,
                meaning="all that was sent from here around that time is counted, so these are not from here",
            )
        await self._ledger.close_report(report, self._now())
        self._forget(report)

    def _is_time(self, what: object) -> bool:
        return self._now() >= self._not_before.get(_key(what), 0.0)

    def _postpone(self, place: Place, why: str, asked_at: float, *, count: int) -> None:
        if self._wait(place, asked_at):
            _log.error(
                "meter_events_still_unknown",
                account=self._account.name or "own",
                event_name=place.event_name,
                customer=place.customer,
                minute=place.minute,
                events=count,
                why=why,
                remedy=_DECIDE,
            )

    def _tell_report(self, report: OpenReport, why: str) -> None:
        if self._wait(report, self._now()):
            _log.error(
                "error_report_not_resolved",
                account=self._account.name or "own",
                report=report.report,
                code=report.code,
                event_name=report.event_name or None,
                errors=report.missing,
                why=why,
                remedy=_COMPARE,
            )

    def _wait(self, what: object, since: float) -> bool:
        """Leave it alone for longer than the last time; return whether this is the first."""
        key = _key(what)
        before = self._pauses.get(key)
        self._pauses[key] = min(2 * before if before else self._rhythm.summary_delay, self._rhythm.longest_pause)
        self._not_before[key] = since + self._pauses[key]
        return before is None

    def _forget(self, what: object) -> None:
        self._pauses.pop(_key(what), None)
        self._not_before.pop(_key(what), None)


def _key(what: object) -> object:
    return (what.report, what.code) if isinstance(what, OpenReport) else what


def _same(one: OpenReport, other: OpenReport) -> bool:
    return _key(one) == _key(other)


def _tell(place: Place, done: Concluded) -> None:
    where = {"account": place.account or "own", "event_name": place.event_name, "customer": place.customer}
    for name in done.counted:
        _log.info("meter_event_was_counted", identifier=name, **where)
    for name in done.resent:
        _log.warning("meter_event_was_not_counted", sent_again_as=name, **where)
    for name in done.too_old:
        _log.error("meter_event_too_old_to_send_again", identifier=name, remedy="credit or bill it by hand", **where)
    for name in done.rejected:
        _log.error("meter_event_rejected_later", identifier=name, remedy=REMEDY_REJECTED, **where)


REMEDY_REJECTED = "remove the cause, then `otel-usageflow quarantine release`"
