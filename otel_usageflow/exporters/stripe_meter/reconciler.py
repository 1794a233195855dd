"""Watches over what is billed: compares with Stripe from time to time, and warns of usage that waits too long.

Each time a part is compared, those first whose comparison is longest ago, so that the reads of a month are bounded
however many customers there are.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.errors import Unavailable
from otel_usageflow.exporters.stripe_meter.answers import explained
from otel_usageflow.exporters.stripe_meter.api import StripeApi
from otel_usageflow.exporters.stripe_meter.config import ReconcileConfig
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.reconcile import Compared, Comparer, NotComparable, meters_of
from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM, Rhythm
from otel_usageflow.exporters.stripe_meter.summaries import Summaries
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.ledger.amount import plain
from otel_usageflow.ledger.charge import STRIPE_PAST
from otel_usageflow.ledger.reconcile import A_DAY, HOUR, SETTLED_FOR, ComparedSums, Only, Pair, stretches

_log = structlog.get_logger(__name__)

_SILENT = 3
"""Accounts that cannot be read, after which it is taken to be the way to Stripe if none can."""
_AGAIN = 3_600.0
"""Seconds after a comparison that failed until the next one."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched, and how. `now` is unix seconds, `unsent_warning` seconds or 0."""

    sums: ComparedSums
    api: StripeApi
    summaries: Summaries
    accounts: Mapping[str, object]
    config: ReconcileConfig
    unsent_warning: float
    now: Callable[[], float]
    backoff: Backoff
    rhythm: Rhythm = RHYTHM


class Looks(Protocol):
    """Something that is done again and again."""

    async def __call__(self) -> None:
        """Once."""


class Reconciler:
    """Watches one book."""

    def __init__(self, watched: Watched) -> None:
        self._of = watched
        self._not_before = 0.0
        self._warned = False

    async def follow(self) -> None:
        """Watch until cancelled."""
        while True:
            for look in (self.warn_of_unsent, self.compare_if_due):
                await _carefully(look)
            await asyncio.sleep(self._of.rhythm.look)

    async def warn_of_unsent(self) -> None:
        """Say once when usage waits too long, and once when that is over."""
        limit, waits = self._of.unsent_warning, waiting_time(await self._of.sums.oldest_unsent(), self._of.now())
        if limit and waits > limit and not self._warned:
            self._warned = True
            _log.warning(
                "usage_waits_long",
                oldest_seconds=round(waits),
                meaning="what reaches Stripe after its invoice is finalized, an hour after the billing period by "
                "default, is never billed; the lines before say why it is not sent",
            )
        elif self._warned and waits <= limit:
            self._warned = False
            _log.info("usage_is_sent_in_time_again")

    async def compare_if_due(self) -> None:
        """Compare a part of the book, if it is time."""
        interval, now = self._of.config.interval.total_seconds(), self._of.now()
        if not interval or now < self._not_before:
            return
        if now < (await self._of.sums.compared()).at + interval:
            return
        self._not_before = now + min(interval, _AGAIN)
        await self.compare(now)

    async def compare(self, now: float) -> None:
        """Compare as many pairs as the reads allow, and tell what came out."""
        sums = self._of.sums
        beginning = await sums.beginning()
        if beginning is None:
            return
        until = int(now - SETTLED_FOR) // HOUR * HOUR
        since = max(beginning // HOUR * HOUR, (int(now - STRIPE_PAST) // A_DAY + 1) * A_DAY)
        pairs, meters = await self._readable(since, until) if since < until else ([], {})
        tallied = {one: await sums.tallies(one, Only(among=tuple(pairs))) for one in stretches(since, until) if pairs}
        limit = self._of.config.reads
        comparer = Comparer(sums, self._of.summaries, self._of.now, self._of.backoff, limit)
        found: list[Compared] = []
        for pair in pairs:
            if comparer.reads >= limit:
                break
            compared = Compared(pair)
            try:
                expected = {stretch: tallies.get(pair, {}) for stretch, tallies in tallied.items()}
                compared = await comparer.compare(pair, meters_of(pair, meters[pair.account]), expected)
            except NotComparable as error:
                _log.warning(
                    "not_reconciled",
                    account=pair.account or "own",
                    event_name=pair.event_name,
                    customer=pair.customer,
                    why=str(error),
                )
            await sums.note(pair, now, since, until, compared.difference)
            found.append(compared)
        self._tell(found, comparer.reads)

    async def _readable(self, since: int, until: int) -> tuple[list[Pair], dict[str, Sequence[Meter]]]:
        """What comes next, with the meters of its accounts. One that cannot be read keeps no other from its turn.

        Raises:
            StripeFailure: several accounts cannot be read, and none can.
        """
        silent: set[str] = set()
        meters: dict[str, Sequence[Meter]] = {}
        while True:
            pairs = await self._of.sums.next_pairs(since, until, self._of.config.reads, silent)
            new = sorted({pair.account for pair in pairs} - meters.keys())
            if not new:
                return pairs, meters
            for account in new:
                try:
                    if account in self._of.accounts:
                        meters[account] = await self._of.api.meters(account)
                    else:
                        silent.add(account)
                except StripeFailure as error:
                    if not meters and len(silent) >= _SILENT:
                        raise
                    silent.add(account)
                    _log.warning("not_reconciled", account=account or "own", why=explained(error))

    def _tell(self, found: Sequence[Compared], reads: int) -> None:
        if not found:
            return
        different = sorted((one for one in found if one.differences), key=lambda one: one.difference, reverse=True)
        facts = {"pairs": len(found), "reads": reads, "differences": len(different)}
        if not different:
            _log.info("reconciled", **facts)
            return
        worst = different[0]
        _log.warning(
            "reconciled",
            **facts,
            worst=_named(worst.pair),
            by=plain(worst.difference),
            cause=str(worst.differences[0].cause),
            remedy="run `otel-usageflow reconcile` to see each difference and what to do about it",
        )


def waiting_time(oldest: float | None, now: float) -> float:
    """For how many seconds usage that ended at `oldest` waits; 0 if none does."""
    return 0.0 if oldest is None else max(now - oldest, 0.0)


def _named(pair: Pair) -> str:
    return " ".join(part for part in pair if part)


async def _carefully(look: Looks) -> None:
    """Nothing that is only watched may stop what is watched over."""
    try:
        await look()
    except StripeFailure as error:
        _log.warning("not_reconciled", why=explained(error))
    except Unavailable as error:
        _log.warning("ledger_unavailable", error=str(error))
    except Exception:  # noqa: BLE001  (logged with its traceback)
        _log.exception("reconciling_stumbled")
