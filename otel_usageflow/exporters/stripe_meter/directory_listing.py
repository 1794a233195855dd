"""A listing of all customers: page by page, each written with the place that it leads to, so that a restart goes on.

It is a cursor's walk, and so one page after the other; how fast is the account's pace. Who becomes a customer
meanwhile is newer than its beginning, and seen by the events since then.
"""

import time
from collections.abc import Callable, Sequence

import stripe
import structlog

from otel_usageflow.exporters.stripe_meter.api import StripeApi
from otel_usageflow.exporters.stripe_meter.customer_pages import CustomerPage
from otel_usageflow.ledger.ledger import CustomerChange, Ledger
from otel_usageflow.ledger.listing import Listing

_log = structlog.get_logger(__name__)

_SLICE = 2.0
"""Seconds of listing before others, as the changes, have their turn."""
_TOLD = 10.0
"""Seconds between two lines in the log."""
_TAKEN_UP = 86_400.0
"""Seconds for which it is worth going on with a listing; what it has missed since is repaired by the next one."""


class CustomerListing:
    """The listing of one account, running or not.

    Args:
        wall: unix seconds.
    """

    def __init__(self, api: StripeApi, ledger: Ledger, account: str, wall: Callable[[], float]) -> None:
        self._api = api
        self._ledger = ledger
        self._account = account
        self._wall = wall
        self.running: Listing | None = None
        self.customers = 0
        """How many the last complete one has shown."""
        self.pages = 0
        """Read since the start."""
        self._began = (0.0, 0)
        self._told_at = 0.0

    def take_up(self, listing: Listing | None, fields: Sequence[str], customers: int) -> None:
        """Go on with what an earlier life has begun, if that is of these fields and not long ago."""
        self.customers = customers
        if listing is None or set(listing.fields) != set(fields):
            return
        if 0 <= self._wall() - listing.started < _TAKEN_UP:
            self.running = listing
            self._begin_telling("customers_listing_goes_on")

    async def begin(self, fields: Sequence[str], started: float) -> Listing:
        """Begin anew."""
        self.running = await self._ledger.begin_listing(self._account, fields, started)
        self._begin_telling("customers_listing")
        return self.running

    async def advance(self) -> Listing | None:
        """Go on for a while; return the listing once it is complete.

        Raises:
            StripeFailure: Stripe did not answer; it goes on from there the next time.
        """
        assert self.running is not None
        until = time.monotonic() + _SLICE
        while True:
            listing = self.running
            page = await self._page(listing)
            self.pages += 1
            if page.customers:
                changes = [CustomerChange(one.id, one.metadata) for one in page.customers]
                created = page.customers[-1].created
                self.running = listing = await self._ledger.list_page(self._account, listing, changes, created)
            if not page.more:
                fields = listing.fields
                await self._ledger.finish_listing(self._account, fields, listing.generation, listing.started)
                self.customers, self.running = listing.listed, None
                _log.info("customers_listed", account=self._account or "own", customers=listing.listed)
                return listing
            if (now := time.monotonic()) >= self._told_at + _TOLD:
                self._tell(listing, now)
            if now >= until:
                return None

    async def _page(self, listing: Listing) -> CustomerPage:
        """The next page; where the customer that it follows was deleted, from the moment when that was made."""
        try:
            return await self._api.customers(self._account, listing.after)
        except stripe.InvalidRequestError as error:
            if not listing.after or "starting_after" not in (error.param, _code(error)):
                raise
            return await self._api.customers(self._account, "", listing.created)

    def _begin_telling(self, event: str) -> None:
        assert self.running is not None
        self._began = (time.monotonic(), self.running.listed)
        self._told_at = time.monotonic()
        if self.customers or self.running.listed:
            _log.info(
                event, account=self._account or "own", listed=self.running.listed, of=self.customers or "unknown"
            )

    def _tell(self, listing: Listing, now: float) -> None:
        self._told_at = now
        began, before = self._began
        rate = (listing.listed - before) / max(now - began, 0.001)
        left = self.customers - listing.listed
        about = {"of": self.customers, "left_s": round(left / rate)} if left > 0 and rate else {}
        _log.info(
            "customers_listing",
            account=self._account or "own",
            listed=listing.listed,
            per_second=round(rate),
            **about,
        )


def _code(error: stripe.InvalidRequestError) -> str:
    """`starting_after` for an error that names no parameter, and yet can be about nothing else."""
    return "starting_after" if error.param is None and error.code == "resource_missing" else ""
