"""The customer directory of one account: listed once, then followed by Stripe's events.

Three ways lead to a customer, in order of trust: the list is complete, the events are fresh, the search is for
misses only, because it is late and does not tell upper from lower case. What any of them finds is written to the
ledger, which looks again at the usage that waited for it.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

import stripe
import structlog

from otel_usageflow.exporters.stripe_meter.answers import explained
from otel_usageflow.exporters.stripe_meter.api import PAGE, Change, Customer, StripeApi
from otel_usageflow.ledger.ledger import CustomerChange, Ledger
from otel_usageflow.model.usage import Reason

_log = structlog.get_logger(__name__)

_OVERLAP = 600
"""Seconds that polls for changes overlap: events may appear late, and clocks differ."""
_EVENTS_KEPT = 29 * 86_400
"""Stripe lists 30 days of events; an older cursor means listing again."""
_SECONDS_A_PAGE = 30
"""A full listing may cost one read per so many seconds on average, so that large directories are listed rarely."""
_WHILE_WAITING = 5
"""Seconds between polls while usage waits for a customer: somebody is about to make one."""
_NOT_WAITING = 60
_PATIENCE = 600
"""Seconds after which usage that still waits is no reason to hurry any more: reads are limited."""
WAITS_FOR_CUSTOMER = (Reason.NO_CUSTOMER, Reason.AMBIGUOUS_CUSTOMER)


class Directory:
    """Keeps one account's directory in the ledger up to date.

    Args:
        account: the connected account, or empty for the key's own.
        fields: the metadata fields that policies ask for.
        refresh: how often everything is listed again, unless that would be too many reads.
        wall: unix seconds.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        api: StripeApi,
        ledger: Ledger,
        account: str,
        fields: Sequence[str],
        refresh: timedelta,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._account = account
        self._fields = tuple(fields)
        self._refresh = refresh.total_seconds()
        self._wall = wall
        self._clock = clock
        self._listed: dict[str, float] = {}
        self._fresh = False
        self._listed_at = 0.0
        self._customers = 0
        self._cursor = 0.0
        self._polled_at = -math.inf
        self._polled_for: set[tuple[str, str]] = set()
        self._hurry_until = -math.inf
        self._seen: dict[str, float] = {}
        self._applied: dict[str, float] = {}
        self._searched: dict[tuple[str, str], float] = {}
        self._search_works = True
        self._blind = False
        """Whether Stripe's events cannot be read, so that only listings show what has changed."""

    def follow_also(self, fields: Iterable[str]) -> None:
        """Know customers by these fields, too; until everybody was listed, nobody is said to be missing."""
        self._fields = tuple(sorted({*self._fields, *fields}))

    @property
    def complete(self) -> frozenset[str]:
        """The fields for which every customer is known. None before the changes since an earlier life are known."""
        return frozenset(self._listed if self._fresh else ())

    async def load(self) -> None:
        """Take up what an earlier life knew; only a directory that was followed without a gap is complete."""
        fields = self._fields
        state = await self._ledger.directory(self._account, fields)
        self._cursor = state.cursor
        self._customers = state.customers
        if self._wall() - state.cursor < _EVENTS_KEPT:
            self._listed = {field: at for field, at in state.listed.items() if field in fields}

    async def update(self) -> None:
        """Do whatever is due now.

        Raises:
            StripeFailure: Stripe did not answer; what was learned before is kept.
        """
        if not self._fields:
            return
        missing = await self._missing()
        if missing - self._polled_for:
            self._hurry_until = self._clock() + _PATIENCE
        if self._listing_is_due(missing):
            await self._list()
        if self._poll_is_due(missing):
            try:
                await self._poll()
            except (stripe.PermissionError, stripe.InvalidRequestError) as error:
                await self._do_without_changes(error)
            self._polled_for = missing
        await self._search(missing)

    async def _missing(self) -> set[tuple[str, str]]:
        waiting = await self._ledger.waiting(WAITS_FOR_CUSTOMER, 1_000)
        return {(w.metadata_field, w.user) for w in waiting if w.account == self._account and w.metadata_field}

    def _hurries(self, missing: set[tuple[str, str]]) -> bool:
        return bool(missing) and self._clock() < self._hurry_until

    def _listing_is_due(self, missing: set[tuple[str, str]]) -> bool:
        if len(self._listed) < len(self._fields):
            return True
        by_size = self._customers / PAGE * _SECONDS_A_PAGE if self._customers > PAGE else 0
        pause = max(_WHILE_WAITING if self._blind and self._hurries(missing) else self._refresh, by_size)
        since = self._wall() - min(self._listed.values())
        return not 0 <= since < pause  # after a listing of tomorrow the clock was wrong

    def _poll_is_due(self, missing: set[tuple[str, str]]) -> bool:
        """Often while somebody waits, at once for somebody new, and now and then otherwise."""
        since = self._clock() - self._polled_at
        if missing - self._polled_for:
            return since >= 1
        return since >= min(self._refresh, _WHILE_WAITING if self._hurries(missing) else _NOT_WAITING)

    async def _list(self) -> None:
        started, fields = self._wall(), self._fields  # a field that comes meanwhile has missed some pages
        generation = int(started * 1000)
        known = 0
        async for page in self._api.customers(self._account):
            await self._apply(page, generation, fields)
            known += len(page)
            if known % (100 * PAGE) == 0:
                _log.info("listing_customers", account=self._account or "own", listed=known)
        await self._ledger.finish_listing(self._account, fields, generation, started)
        if not self._cursor or started - self._cursor > _EVENTS_KEPT:
            await self._follow(started)
        if not self._listed:
            _log.info("customers_listed", account=self._account or "own", customers=known)
        self._listed = dict.fromkeys(fields, started)
        self._listed_at = started
        self._customers = known
        self._fresh = True

    async def _poll(self) -> None:
        """Apply the changes since the last poll, oldest first."""
        since = min(self._cursor, self._wall()) - _OVERLAP  # a cursor of tomorrow would miss the changes of today
        fresh: list[Change] = []
        async for page in self._api.changes(self._account, int(since)):
            unseen = [change for change in page if change.id not in self._seen]
            fresh.extend(unseen)
            if not unseen:
                break
        for change in sorted(fresh, key=lambda change: change.created):
            await self._apply([await self._current(change, fresh)], int(self._wall() * 1000))
            self._applied[change.customer.id] = change.created
        self._seen.update((change.id, change.created) for change in fresh)
        if fresh:
            await self._follow(max(self._cursor, *(change.created for change in fresh)))
        self._forget(since - _OVERLAP)
        self._polled_at = self._clock()
        self._fresh = True
        self._blind = False

    async def _do_without_changes(self, error: stripe.StripeError) -> None:
        """A key that may not read events: then only the listings tell, and the one of an earlier life is too old."""
        self._polled_at = self._clock()
        if not self._fresh:
            await self._list()
        if not self._blind:
            self._blind = True
            _log.error(
                "customer_changes_not_readable",
                account=self._account or "own",
                why=explained(error),
                remedy="give the key the permission to read events; until then only listings show changes",
            )

    async def _current(self, change: Change, fresh: Sequence[Change]) -> Customer:
        """The customer as it is. Events are not ordered, so with several of one customer only Stripe can tell."""
        alone = sum(other.customer.id == change.customer.id for other in fresh) == 1
        # What a listing has shown may be newer than an event that it met again.
        newest = change.created > self._applied.get(change.customer.id, self._listed_at)
        if change.customer.deleted or (alone and newest):
            return change.customer
        return await self._api.customer(self._account, change.customer.id)

    async def _search(self, missing: set[tuple[str, str]]) -> None:
        """Look for customers that neither the list nor the events have shown, once per refresh each."""
        now = self._clock()
        self._searched = {who: at for who, at in self._searched.items() if now - at < self._refresh}
        for field, value in sorted(missing - self._searched.keys())[:10]:
            self._searched[field, value] = now
            if not self._search_works or not value.isprintable():
                continue
            try:
                found = await self._api.search_customers(self._account, field, value)
            except (stripe.InvalidRequestError, stripe.PermissionError) as error:
                # Not everywhere available, and never needed: the list and the events find everybody.
                self._search_works = False
                _log.info("customer_search_not_available", account=self._account or "own", why=explained(error))
                return
            for customer in found:
                generation = int(self._wall() * 1000)
                await self._apply([await self._api.customer(self._account, customer)], generation)

    async def _apply(
        self, customers: Sequence[Customer], generation: int, fields: Sequence[str] | None = None
    ) -> None:
        changes = [CustomerChange(c.id, None if c.deleted else c.metadata) for c in customers]
        await self._ledger.apply_customers(self._account, fields or self._fields, changes, generation)

    async def _follow(self, cursor: float) -> None:
        self._cursor = cursor
        await self._ledger.follow(self._account, cursor)

    def _forget(self, before: float) -> None:
        self._seen = {name: at for name, at in self._seen.items() if at >= before}
        self._applied = {name: at for name, at in self._applied.items() if at >= before}
