"""Comparing the ledger with Stripe's summaries: days first, the hours of a day that differs, then minutes.

Every read counts against the account's allocation, so nothing is read that is not needed: one to three reads for a
customer and meter that agree.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.exporters.stripe_meter.answers import explained, outcome_of
from otel_usageflow.exporters.stripe_meter.api import Grouping, Summary
from otel_usageflow.exporters.stripe_meter.customer_pages import PAGE
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.summaries import Summaries
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.reconcile import (
    A_DAY,
    HOUR,
    NOTHING,
    SETTLED_FOR,
    Difference,
    Facts,
    LedgerSums,
    Pair,
    Stretch,
    Tally,
    is_fresh,
    judge,
    same,
    tally,
)
from otel_usageflow.model.outcome import Refused, Retry
from otel_usageflow.model.usage import Quantity

MINUTE = 60
_GROUPINGS: dict[int, Grouping] = {HOUR: "hour", A_DAY: "day"}
_ATTEMPTS = 4
_MOST_MINUTE_READS = 16
"""Reads that one hour may cost to find the minutes that differ; a single minute costs six."""
_MOST_READS = 120
"""Reads that one pair may cost, about; where everything differs, minutes tell nothing more."""


class NotComparable(Exception):
    """A pair that Stripe cannot be asked about; the message says why."""


@dataclass(slots=True)
class Compared:
    """What came of comparing one pair."""

    pair: Pair
    differences: list[Difference] = field(default_factory=list)
    left_out: int = 0
    """Hours that differ and in which something was settled so recently that the summaries may not show it."""

    @property
    def difference(self) -> Quantity:
        """By how much the two differ, all differences without their signs."""
        total: Quantity = 0
        for one in self.differences:
            total = amount.add(total, max(one.difference, amount.negative(one.difference)))
        return total


@dataclass(frozen=True, slots=True)
class _Subject:
    """A pair, with the meters that have had its event name, and how they add up."""

    pair: Pair
    meters: Sequence[Meter]
    formula: Formula


class Comparer:
    """Compares pairs of one book.

    Args:
        sums: the ledger.
        summaries: Stripe, at a pace.
        now: unix seconds.
        backoff: pauses after an answer that says nothing.
        limit: reads after which differences are told by the day or hour that is known by then.
        settled_for: seconds after which the summaries are taken to include an event.
    """

    def __init__(
        self,
        sums: LedgerSums,
        summaries: Summaries,
        now: Callable[[], float],
        backoff: Backoff,
        limit: float = float("inf"),
        settled_for: float = SETTLED_FOR,
    ) -> None:
        self._sums = sums
        self._summaries = summaries
        self._now = now
        self._backoff = backoff
        self._limit = limit
        self._settled_for = settled_for
        self._until = 0.0
        self.reads = 0
        """Reads so far, with the pages that followed a first one."""

    async def compare(
        self, pair: Pair, meters: Sequence[Meter], expected: Mapping[Stretch, Mapping[int, Tally]]
    ) -> Compared:
        """Compare a pair over some stretches, for each of which the ledger's tallies are given.

        Args:
            pair: the account, event name and customer.
            meters: all that have this event name; the active one, if any, comes last.
            expected: stretch -> start of a step -> tally.

        Raises:
            NotComparable: Stripe has no such meter or customer, or the meter does not simply add up.
            StripeFailure: Stripe cannot be read.
        """
        subject = _Subject(pair, meters, _formula(pair, meters))
        compared = Compared(pair)
        self._until = min(self._limit, self.reads + _MOST_READS)
        for stretch, tallies in expected.items():
            if subject.formula is Formula.LAST:
                tallies = await self._tallies(subject, stretch)
            for step, stripe in await self._different(subject, stretch, tallies):
                if step.width == HOUR or self.reads >= self._until:
                    await self._find(subject, step, stripe, compared)
                    continue
                hours = step._replace(width=HOUR)
                for hour, said in await self._different(subject, hours, await self._tallies(subject, hours)):
                    await self._find(subject, hour, said, compared)
        return compared

    async def _tallies(self, subject: _Subject, stretch: Stretch) -> Mapping[int, Tally]:
        """The tallies of one pair from its events one by one, with the last values."""
        facts = await self._sums.facts(subject.pair, stretch.start, stretch.end)
        steps: dict[int, list[int]] = {}
        for place, event in enumerate(facts.events):
            start = event.timestamp - (event.timestamp - stretch.start) % stretch.width
            steps.setdefault(start, []).append(place)
        return {start: tally(facts.events[place] for place in places) for start, places in steps.items()}

    async def _different(
        self, subject: _Subject, stretch: Stretch, tallies: Mapping[int, Tally]
    ) -> list[tuple[Stretch, Quantity]]:
        """The steps in which Stripe says something else, with what it says."""
        said = await self._read(subject, stretch.start, stretch.end, _GROUPINGS[stretch.width])
        # What a meter of last values says of a time without events is nobody's usage.
        starts = sorted({*tallies} if subject.formula is Formula.LAST else {*tallies, *said})
        return [
            (Stretch(at, at + stretch.width, stretch.width), said.get(at, 0))
            for at in starts
            if not same(subject.formula, tallies.get(at, NOTHING), said.get(at, 0))
        ]

    async def _find(self, subject: _Subject, step: Stretch, stripe: Quantity, compared: Compared) -> None:
        """Find what differs within an hour or a day, and why."""
        facts = await self._sums.facts(subject.pair, step.start, step.end)
        made = tally(facts.events)
        if same(subject.formula, made, stripe):
            return  # the ledger has caught up
        if is_fresh(made, self._now(), self._settled_for):
            compared.left_out += 1
            return
        limit = min(self._until, self.reads + _MOST_MINUTE_READS) if step.width == HOUR else 0.0
        for low, high, value in await self._narrow(subject, facts, step, stripe, limit):
            difference = judge(subject.pair, subject.formula, low, high, _within(facts, low, high), value)
            if difference is not None:
                compared.differences.append(difference)

    async def _narrow(
        self, subject: _Subject, facts: Facts, stretch: Stretch, stripe: Quantity, limit: float
    ) -> list[tuple[int, int, Quantity]]:
        """The minutes that differ, with what Stripe says of each; longer stretches where that costs too much."""
        start, end, _ = stretch
        if same(subject.formula, tally(_within(facts, start, end).events), stripe):
            return []
        if end - start <= MINUTE or subject.formula is Formula.LAST or self.reads >= limit:
            return [(start, end, stripe)]
        middle = start + (end - start) // MINUTE // 2 * MINUTE
        first = await self._whole(subject, start, middle)
        second = amount.add(stripe, amount.negative(first))
        found = [
            *await self._narrow(subject, facts, Stretch(start, middle, 0), first, limit),
            *await self._narrow(subject, facts, Stretch(middle, end, 0), second, limit),
        ]
        # Sums of floats: each half can look right although the whole does not.
        return found or [(start, end, stripe)]

    async def _whole(self, subject: _Subject, start: int, end: int) -> Quantity:
        return (await self._read(subject, start, end, None)).get(start, 0)

    async def _read(self, subject: _Subject, start: int, end: int, grouping: Grouping | None) -> dict[int, Quantity]:
        """Start -> what all meters of this event name say together; the last one's word if they keep last values."""
        said: dict[int, Quantity] = {}
        for meter in subject.meters:
            for summary in await self._patiently(subject.pair, meter, start, end, grouping):
                value = amount.normal(summary.value)
                before = 0 if subject.formula is Formula.LAST else said.get(summary.start, 0)
                said[summary.start] = amount.add(before, value)
        return said

    async def _patiently(
        self, pair: Pair, meter: Meter, start: int, end: int, grouping: Grouping | None
    ) -> list[Summary]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self.reads += 1
                found = await self._summaries.summaries(pair.account, meter.id, pair.customer, start, end, grouping)
            except StripeFailure as error:
                outcome = outcome_of(error)
                if isinstance(outcome, Refused):
                    raise NotComparable(explained(error)) from error
                if not isinstance(outcome, Retry) or attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(self._backoff.delay(attempt))
            else:
                self.reads += len(found) // PAGE
                return found
        raise AssertionError  # the last attempt returns or raises


def meters_of(pair: Pair, meters: Sequence[Meter]) -> list[Meter]:
    """The meters that have the pair's event name; the active one last."""
    return sorted((meter for meter in meters if meter.event_name == pair.event_name), key=lambda meter: meter.active)


def _formula(pair: Pair, meters: Sequence[Meter]) -> Formula:
    if not meters:
        raise NotComparable(f"Stripe has no meter with event_name {pair.event_name!r}")
    meter = meters[-1]
    if meter.event_time_window is not None:
        raise NotComparable(f"the meter has event_time_window {meter.event_time_window!r}: it does not add up events")
    try:
        return Formula(meter.formula)
    except ValueError:
        raise NotComparable(f"the meter aggregates by {meter.formula!r}, which is not known here") from None


def _within(facts: Facts, start: int, end: int) -> Facts:
    events = [event for event in facts.events if start <= event.timestamp < end]
    return Facts(events, facts.late_refusals, facts.open_corrections)
