"""The customer directory of one account: listed once, then followed by Stripe's events.

Four ways lead to a customer, in order of trust: the list is complete, the events are fresh, a webhook says where to
look at once, and the search is for misses only, because it is late and does not tell upper from lower case. What any
of them finds is written to the ledger, which looks again at the usage that waited for it.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

import stripe
import structlog

from otel_usageflow.exporters.stripe_meter.answers import explained, is_no_access
from otel_usageflow.exporters.stripe_meter.api import StripeApi
from otel_usageflow.exporters.stripe_meter.customer_pages import PAGE, Change
from otel_usageflow.exporters.stripe_meter.directory_changes import Changes, relevant
from otel_usageflow.exporters.stripe_meter.directory_listing import CustomerListing
from otel_usageflow.exporters.stripe_meter.directory_rhythm import DAY, Hurry, Spare, listing_pause, poll_pause
from otel_usageflow.ledger.ledger import Ledger
from otel_usageflow.model.usage import Reason

_log = structlog.get_logger(__name__)

_OVERLAP = 600
"""Seconds that polls for changes overlap: events may appear late, and clocks differ."""
_EVENTS_KEPT = 29 * 86_400
"""Stripe lists 30 days of events; an older cursor means listing again."""
_HINTS_READ = 10
"""Customers of webhooks that are read one by one; for more, a page of events is cheaper."""
_MOST_HINTS = 10_000
_HEARD_BY = 300
"""Seconds within which a webhook must have told of an event to be relied on."""
_SEARCHED = 10
"""Users that are searched for at one time."""
_FOR_POLLS = 100
"""Reads that searching leaves to polls."""
WAITS_FOR_CUSTOMER = (Reason.NO_CUSTOMER, Reason.AMBIGUOUS_CUSTOMER)


class Directory:
    """Keeps one account's directory in the ledger up to date.

    Args:
        account: the connected account, or empty for the key's own.
        fields: the metadata fields that policies ask for.
        refresh: how often changes are looked for while nobody waits.
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
        self.listing = CustomerListing(api, ledger, account, wall)
        self._changes = Changes(api, ledger, account)
        self._hurry = Hurry(clock)
        self._spare = Spare(clock)
        self._listed: dict[str, float] = {}
        self._fresh = False
        self._generation = 0
        self._known_since = 0.0
        """What is known may be newer than events from before this moment, by Stripe's clock."""
        self._cursor = 0.0
        self._polled_at = -math.inf
        self._seen: dict[str, float] = {}
        self._searched: dict[tuple[str, str], float] = {}
        self._search_works = True
        self._blind = False
        """Whether Stripe's events cannot be read, so that only listings show what has changed."""
        self._hints: dict[str, Mapping[str, str] | None] = {}
        self._polled_for_hints = False
        self._heard: dict[str, float] = {}
        self._relies_on_webhook = False

    def follow_also(self, fields: Iterable[str]) -> None:
        """Know customers by these fields, too; until everybody was listed, nobody is said to be missing."""
        self._fields = tuple(sorted({*self._fields, *fields}))

    @property
    def complete(self) -> frozenset[str]:
        """The fields for which every customer is known. None before the changes since an earlier life are known."""
        return frozenset(self._listed if self._fresh else ())

    @property
    def changes_seen(self) -> float | None:
        """Seconds since changes were last looked for; None before the first time."""
        return None if self._polled_at == -math.inf else self._clock() - self._polled_at

    def hint(self, change: Change) -> None:
        """A webhook says that a customer has changed: look, if that is news. What it says is never believed."""
        self._heard[change.id] = change.created
        self._relies_on_webhook = True
        customer = change.customer
        if len(self._hints) < _MOST_HINTS:
            self._hints[customer.id] = None if customer.deleted else customer.metadata

    async def load(self) -> None:
        """Take up what an earlier life knew; only a directory that was followed without a gap is complete."""
        fields = self._fields
        state = await self._ledger.directory(self._account, fields)
        self._cursor = self._known_since = state.cursor
        self._generation = state.generation
        followed = self._wall() - state.cursor < _EVENTS_KEPT
        self.listing.take_up(state.listing if followed else None, fields, state.customers)
        if followed:
            self._listed = {field: at for field, at in state.listed.items() if field in fields}

    async def update(self) -> bool:
        """Do whatever is due now; return whether there is more to do at once.

        Raises:
            StripeFailure: Stripe did not answer; what was learned before is kept.
        """
        if not self._fields:
            return False
        missing = await self._missing()
        self._hurry.see(missing)
        if self._cursor and self._poll_is_due():
            await self._look_for_changes()
        if self.listing.running is None and self._listing_is_due():
            await self._begin_listing()
        if self.listing.running is not None:
            await self._list()
        if self._cursor and self._poll_is_due():
            await self._look_for_changes()
        await self._take_hints()
        await self._search(missing)
        return self.listing.running is not None

    async def _missing(self) -> set[tuple[str, str]]:
        waiting = await self._ledger.waiting(WAITS_FOR_CUSTOMER, 1_000)
        return {(w.metadata_field, w.user) for w in waiting if w.account == self._account and w.metadata_field}

    def _listing_is_due(self) -> bool:
        if len(self._listed) < len(self._fields):
            return True
        since = self._wall() - min(self._listed.values())
        if not 0 <= since < listing_pause(self.listing.customers, self._refresh, blind=self._blind):
            return True  # after a listing of tomorrow the clock was wrong
        if not self._blind or (hurried := self._hurry.pause) is None or since < max(5.0, hurried):
            return False
        return self._spare.take(max(1.0, self.listing.customers / PAGE))

    def _poll_is_due(self) -> bool:
        """Often while somebody waits, at once for somebody new, and now and then otherwise."""
        since = self._clock() - self._polled_at
        if since >= poll_pause(self._refresh, webhook=self._relies_on_webhook):
            return True
        hurried = self._hurry.pause
        return not self._blind and hurried is not None and since >= hurried and self._spare.take()

    async def _begin_listing(self) -> None:
        started = self._wall()
        listing = await self.listing.begin(self._fields, started)
        self._generation = listing.generation
        if not self._cursor or started - self._cursor > _EVENTS_KEPT:
            await self._follow(started)

    async def _list(self) -> None:
        done = await self.listing.advance()
        if done is None:
            return
        self._known_since = max(self._known_since, self._wall())
        self._listed = {**self._listed, **dict.fromkeys(done.fields, done.started)}
        if self._blind or self._polled_at > -math.inf or self._wall() - done.started < _OVERLAP:
            self._fresh = True  # what changed since it began is read from where it began

    async def _look_for_changes(self) -> None:
        try:
            await self._poll()
        except (stripe.PermissionError, stripe.InvalidRequestError) as error:
            if is_no_access(error):
                raise  # nothing of this account can be read
            await self._do_without_changes(error)
        self._hurry.looked()

    async def _poll(self) -> None:
        """Apply the changes since the last poll."""
        since = min(self._cursor, self._wall()) - _OVERLAP  # a cursor of tomorrow would miss the changes of today
        whole = self._hurry.pause is None  # late events stand behind those that were seen
        fresh: list[Change] = []
        async for page in self._api.changes(self._account, int(since)):
            unseen = [change for change in page if change.id not in self._seen]
            fresh.extend(unseen)
            if not unseen and not whole:
                break
        # While a listing runs, any page of it may be newer than an event.
        known_since = self._known_since if self.listing.running is None else self._wall()
        await self._changes.take(fresh, self._fields, self._generation, known_since)
        self._judge_webhook(fresh)
        self._seen.update((change.id, change.created) for change in fresh)
        if fresh:
            await self._follow(max(self._cursor, *(change.created for change in fresh)))
        self._forget(since - _OVERLAP)
        self._polled_at = self._clock()
        self._fresh = True
        self._blind = False

    def _judge_webhook(self, fresh: Sequence[Change]) -> None:
        if not self._relies_on_webhook:
            return
        late = self._wall() - _HEARD_BY
        if missed := [change.id for change in fresh if change.id not in self._heard and change.created < late]:
            self._relies_on_webhook = False
            _log.warning(
                "webhook_missed_changes",
                account=self._account or "own",
                changes=len(missed),
                meaning="changes are looked for as often as without a webhook, until it tells of one again",
            )

    async def _do_without_changes(self, error: stripe.StripeError) -> None:
        """A key that may not read events: then only the listings tell, and the one of an earlier life is too old."""
        self._polled_at = self._clock()
        if not self._blind:
            self._blind = True
            _log.error(
                "customer_changes_not_readable",
                account=self._account or "own",
                why=explained(error),
                remedy="give the key the permission to read events; until then only listings show changes",
            )
        if not self._fresh:
            await self._begin_listing()

    async def _take_hints(self) -> None:
        """Read the customers of whom a webhook says something that is not known yet."""
        hints, self._hints = self._hints, {}
        if not hints:
            self._polled_for_hints = False
            return
        try:
            known = await self._ledger.known_customers(self._account, self._fields, list(hints))
            news = [one for one, told in hints.items() if relevant(told or {}, self._fields) != known.get(one, {})]
            if len(news) > _HINTS_READ and not self._polled_for_hints:
                await self._look_for_changes()
                self._polled_for_hints = True
            else:
                await self._changes.read(news[:_HINTS_READ], self._fields, self._generation, self._wall())
                news = news[_HINTS_READ:]
        except BaseException:
            self._hints = {**hints, **self._hints}
            raise
        self._hints = {**{one: hints[one] for one in news}, **self._hints}

    async def _search(self, missing: set[tuple[str, str]]) -> None:
        """Look for customers that neither the list nor the events have shown, once a day each."""
        now = self._clock()
        self._searched = {who: at for who, at in self._searched.items() if now - at < DAY}
        for field, value in sorted(missing - self._searched.keys())[:_SEARCHED]:
            if not self._search_works or not self._spare.take(keep=_FOR_POLLS):
                return
            try:
                found = await self._api.search_customers(self._account, field, value) if value.isprintable() else []
            except (stripe.InvalidRequestError, stripe.PermissionError) as error:
                # Not everywhere available, and never needed: the list and the events find everybody.
                self._search_works = False
                _log.info("customer_search_not_available", account=self._account or "own", why=explained(error))
                return
            self._searched[field, value] = now
            await self._changes.read(found, self._fields, self._generation, self._wall())

    async def _follow(self, cursor: float) -> None:
        self._cursor = cursor
        await self._ledger.follow(self._account, cursor)

    def _forget(self, before: float) -> None:
        self._seen = {name: at for name, at in self._seen.items() if at >= before}
        self._heard = {name: at for name, at in self._heard.items() if at >= before}
        self._changes.forget(before)
