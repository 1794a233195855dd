"""The customer directory: complete before anybody is billed, and followed whatever the clocks say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import stripe as stripe_sdk
from billing import batch, record
from ledgers import Book, book

from otel_usageflow.exporters.stripe_meter.api import StripeApi, connect
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.customer_pages import Change
from otel_usageflow.exporters.stripe_meter.directory import Directory
from otel_usageflow.testing.stripe import Fault, StripeDouble

NOON = 1_700_000_000 - 1_700_000_000 % 60


class Clocks:
    """A wall clock and a monotonic one, moved by the test."""

    def __init__(self, stripe: StripeDouble) -> None:
        self._stripe = stripe
        self.wrong = 0.0
        self.passed = 0.0

    def wall(self) -> float:
        """What this machine believes."""
        return self._stripe.clock.now() + self.wrong

    def monotonic(self) -> float:
        """Seconds that have passed."""
        return self.passed


@dataclass
class Setup:
    """A directory in a ledger, and what it knows."""

    api: StripeApi
    open_book: Book
    clocks: Clocks

    def directory(self, api: StripeApi | None = None, refresh: timedelta = timedelta(minutes=1)) -> Directory:
        """A directory as a new life has it."""
        return Directory(
            api or self.api,
            self.open_book.ledger,
            "",
            ["account_id"],
            refresh,
            self.clocks.wall,
            self.clocks.monotonic,
        )

    async def customer_of(self, user: str) -> list[str]:
        """Whom a usage of this user would be billed to now."""
        await self.open_book.commit(batch(record(user, at=NOON)), NOON)
        return [event.customer for event in await self.open_book.freeze(NOON + 60)]


@asynccontextmanager
async def setup(path: Path, stripe: StripeDouble) -> AsyncIterator[Setup]:
    """A ledger and a connection to the double."""
    config = StripeMeterConfig.model_validate(
        {
            "api_key": f" {stripe.api_key}\n",  # as from a file
            "endpoints": {"api": stripe.url},
            "sending_queue": {"storage": "s"},
            "timeout": "2s",
        }
    )
    async with book(path) as open_book, connect(config) as api:
        yield Setup(api, open_book, Clocks(stripe))


async def test_an_earlier_life_is_not_trusted_before_its_changes_are_known(tmp_path: Path) -> None:
    """After a restart nobody is billed by a directory that is days old: first what changed since is read."""
    async with StripeDouble() as stripe, setup(tmp_path, stripe) as here:
        first = stripe.add_customer({"account_id": "acme"})
        directory = here.directory()
        await directory.load()
        await directory.update()
        assert directory.complete == {"account_id"}
        stripe.clock.advance(3 * 86_400)
        stripe.update_customer(first, {"account_id": "other"})
        second = stripe.add_customer({"account_id": "acme"})
        again = here.directory()
        await again.load()
        assert again.complete == frozenset()
        listings = sum(call.path == "/v1/customers" for call in stripe.calls)
        await again.update()
        assert again.complete == {"account_id"}
        assert await here.customer_of("acme") == [second]
        assert sum(call.path == "/v1/customers" for call in stripe.calls) == listings + 1  # older than its refresh


async def test_changes_of_one_second_end_as_stripe_has_them(tmp_path: Path) -> None:
    """Several changes within a second have no order, so the customer itself is asked."""
    async with StripeDouble() as stripe, setup(tmp_path, stripe) as here:
        directory = here.directory()
        await directory.load()
        await directory.update()
        customer = stripe.add_customer({"account_id": "a"})
        for value in ("b", "a", "b", "acme"):
            stripe.update_customer(customer, {"account_id": value})
        gone = stripe.add_customer({"account_id": "acme"})
        stripe.delete_customer(gone)
        here.clocks.passed += 60
        await directory.update()
        assert await here.customer_of("acme") == [customer]


async def test_a_deleted_customer_makes_its_value_unambiguous(tmp_path: Path) -> None:
    """With two customers of one value nobody is billed; when one is deleted the other is."""
    async with StripeDouble() as stripe, setup(tmp_path, stripe) as here:
        first, second = (stripe.add_customer({"account_id": "acme"}) for _ in range(2))
        directory = here.directory()
        await directory.load()
        await directory.update()
        assert await here.customer_of("acme") == []
        stripe.delete_customer(second)
        here.clocks.passed += 60
        await directory.update()
        assert await here.customer_of("acme") == [first]


@pytest.mark.parametrize("wrong", [-7 * 86_400.0, -3600.0, 3600.0, 7 * 86_400.0])
async def test_a_clock_that_jumps_misses_no_change_for_long(tmp_path: Path, wrong: float) -> None:
    """After the clock was wrong at the first listing and was put right, changes are seen again."""
    async with StripeDouble() as stripe, setup(tmp_path, stripe) as here:
        here.clocks.wrong = wrong
        directory = here.directory()
        await directory.load()
        await directory.update()
        here.clocks.wrong = 0.0
        here.clocks.passed += 60
        late = stripe.add_customer({"account_id": "acme"})
        await directory.update()
        assert await here.customer_of("acme") == [late]


async def test_a_search_that_failed_once_is_tried_again(tmp_path: Path) -> None:
    """A moment without an answer is no reason to search never again."""
    async with StripeDouble() as stripe, setup(tmp_path, stripe) as here:
        stripe.settings.events_lag = 3600
        directory = here.directory(refresh=timedelta(hours=10))
        await directory.load()
        await directory.update()
        assert await here.customer_of("acme") == []
        late = stripe.add_customer({"account_id": "acme"})
        stripe.fault("/v1/customers/search", Fault.UNAVAILABLE)
        with pytest.raises(stripe_sdk.APIError):
            await directory.update()
        here.clocks.passed += 11 * 3600
        await directory.update()
        assert await here.customer_of("acme") == [late]


class Blind(StripeApi):
    """Stripe, seen with a key that may not read events."""

    async def changes(self, account: str, since: int) -> AsyncIterator[list[Change]]:
        """Refused."""
        raise stripe_sdk.PermissionError("The provided key does not have the required permissions", http_status=403)
        yield []


async def test_a_key_without_events_lists_again(tmp_path: Path) -> None:
    """Without permission to read changes every life begins with a listing, so that billing goes on."""
    async with StripeDouble() as stripe, setup(tmp_path, stripe) as here:
        first = stripe.add_customer({"account_id": "acme"})
        blind = Blind.__new__(Blind)
        blind.__dict__.update(here.api.__dict__)
        for _life in range(2):
            directory = here.directory(blind)
            await directory.load()
            await directory.update()
            assert directory.complete == {"account_id"}
        stripe.delete_customer(first)
        second = stripe.add_customer({"account_id": "acme"})
        directory = here.directory(blind)
        await directory.load()
        await directory.update()
        assert await here.customer_of("acme") == [second]


async def test_without_events_a_new_customer_is_found_by_listing(tmp_path: Path) -> None:
    """While somebody waits and changes cannot be read, the customers are listed again soon."""
    async with StripeDouble() as stripe, setup(tmp_path, stripe) as here:
        stripe.settings.search_lag = 10 * 3600
        blind = Blind.__new__(Blind)
        blind.__dict__.update(here.api.__dict__)
        directory = here.directory(blind)
        await directory.load()
        await directory.update()
        assert await here.customer_of("acme") == []
        late = stripe.add_customer({"account_id": "acme"})
        await directory.update()
        assert await here.customer_of("acme") == []
        stripe.clock.advance(6)
        here.clocks.passed += 6
        await directory.update()
        assert await here.customer_of("acme") == [late]


async def test_usage_that_waits_for_ever_is_no_reason_to_hurry(tmp_path: Path) -> None:
    """Reads are limited: changes are polled less and less often for ten minutes, and then as if nobody waited."""
    async with StripeDouble() as stripe, setup(tmp_path, stripe) as here:
        directory = here.directory(refresh=timedelta(hours=10))
        await directory.load()
        assert await here.customer_of("nobody") == []
        polls = {}
        for minute in range(20):
            before = sum(call.path == "/v1/events" for call in stripe.calls)
            for _ in range(12):
                here.clocks.passed += 5
                await directory.update()
                await here.customer_of("nobody")
            polls[minute] = sum(call.path == "/v1/events" for call in stripe.calls) - before
        assert polls[0] >= 10
        assert sum(polls[minute] for minute in range(11)) <= 40
        assert sum(polls[minute] for minute in range(11, 20)) == 0


async def test_a_webhook_that_goes_silent_is_not_relied_on(tmp_path: Path) -> None:
    """Polling is rare while a webhook tells of all changes, and as often as ever once it has missed one."""
    async with StripeDouble() as stripe, setup(tmp_path, stripe) as here:
        directory = here.directory(refresh=timedelta(minutes=10))
        await directory.load()
        await directory.update()
        customer = stripe.add_customer({"account_id": "acme"})
        async for page in here.api.changes("", 0):
            for change in page:
                directory.hint(change)
        await directory.update()

        async def polls(seconds: int) -> int:
            before = sum(call.path == "/v1/events" for call in stripe.calls)
            for _ in range(seconds // 60):
                here.clocks.passed += 60
                stripe.clock.advance(60)
                await directory.update()
            return sum(call.path == "/v1/events" for call in stripe.calls) - before

        assert await polls(7_200) == 2
        stripe.delete_customer(customer)
        second = stripe.add_customer({"account_id": "acme"})
        assert await polls(7_200) == 1 + 6
        assert await here.customer_of("acme") == [second]
