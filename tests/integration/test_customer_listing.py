"""Listings of many customers: gone on with after a restart, without holes, and with what happens meanwhile."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import stripe as stripe_sdk
from billing import batch, record
from ledgers import Book, book
from test_customer_directory import NOON, Setup, setup

from otel_usageflow.cli.doctor_ledger import _directory
from otel_usageflow.exporters.stripe_meter.api import StripeApi
from otel_usageflow.exporters.stripe_meter.customer_pages import CustomerPage
from otel_usageflow.exporters.stripe_meter.directory import Directory
from otel_usageflow.extensions.sqlite_storage.reading.condition import condition
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.testing.stripe import StripeDouble


class Ended(Exception):
    """The process ends here."""


class EndsAfter(StripeApi):
    """Stripe, until so many pages were read; it notes what was asked for."""

    left: int
    asked: list[tuple[str, int]]
    gone: str = ""

    async def customers(self, account: str, after: str = "", until: int = 0) -> CustomerPage:
        """A page, or the end."""
        if after and after == self.gone:
            message = f"No such customer: '{after}'"
            raise stripe_sdk.InvalidRequestError(message, "starting_after", code="resource_missing", http_status=400)
        if not self.left:
            raise Ended
        self.left -= 1
        self.asked.append((after, until))
        return await super().customers(account, after, until)


def ends_after(api: StripeApi, pages: int, gone: str = "") -> EndsAfter:
    """The same Stripe, for a life that ends."""
    ending = EndsAfter.__new__(EndsAfter)
    ending.__dict__.update(api.__dict__)
    ending.left, ending.asked, ending.gone = pages, [], gone
    return ending


async def customers_of(here: Setup, *users: str) -> dict[str, list[str]]:
    """Whom each would be billed to now."""
    found: dict[str, list[str]] = {}
    for user in users:
        found[user] = await here.customer_of(user)
    return found


async def interrupted(here: Setup, pages: int) -> EndsAfter:
    """A life that ends after some pages."""
    api = ends_after(here.api, pages)
    directory = here.directory(api)
    await directory.load()
    with pytest.raises(Ended):
        await directory.update()
    return api


async def test_a_restart_goes_on_where_the_listing_was(tmp_path: Path) -> None:
    """No page is read twice, nobody is called missing before the end, and everybody is known then."""
    async with StripeDouble() as stripe:
        made = stripe.add_customers(1_050, "account_id", "user-{}")
        async with setup(tmp_path, stripe) as here:
            first = await interrupted(here, 4)
            assert await here.customer_of("user-0") == []
        async with setup(tmp_path, stripe) as here:
            api = ends_after(here.api, 100)
            directory = here.directory(api)
            await directory.load()
            assert directory.complete == frozenset()
            await directory.update()
            assert directory.complete == {"account_id"}
            assert (len(first.asked), len(api.asked)) == (4, 7)
            assert api.asked[0] == (made.id_of(1_050 - 400), 0)
            assert directory.listing.customers == 1_050
            known = await here.open_book.ledger.known_customers(
                "", ["account_id"], [made.id_of(n) for n in range(1_050)]
            )
            assert [known[made.id_of(n)] for n in range(1_050)] == [{"account_id": f"user-{n}"} for n in range(1_050)]


async def test_the_customer_that_a_listing_has_come_to_may_be_deleted(tmp_path: Path) -> None:
    """Then it goes on from the moment when that one was made, and leaves nobody out."""
    async with StripeDouble() as stripe:
        made = stripe.add_customers(450, "account_id", "user-{}", spread=3)
        async with setup(tmp_path, stripe) as here:
            await interrupted(here, 2)
        last = made.id_of(450 - 200)
        stripe.delete_customer(last)
        async with setup(tmp_path, stripe) as here:
            directory = here.directory(ends_after(here.api, 100, gone=last))
            await directory.load()
            await directory.update()
            assert directory.complete == {"account_id"}
            alive = [n for n in range(450) if made.id_of(n) != last]
            known = await here.open_book.ledger.known_customers("", ["account_id"], [made.id_of(n) for n in alive])
            assert all(known[made.id_of(n)] == {"account_id": f"user-{n}"} for n in alive)
            assert await here.customer_of(f"user-{450 - 200}") == []


async def test_what_happens_while_a_listing_waits_for_a_restart_is_known(tmp_path: Path) -> None:
    """Customers who came, went or changed meanwhile are known by the events since the listing began."""
    async with StripeDouble() as stripe:
        made = stripe.add_customers(500, "account_id", "user-{}")
        async with setup(tmp_path, stripe) as here:
            await interrupted(here, 2)
        stripe.clock.advance(1_200)
        new = stripe.add_customer({"account_id": "new"})
        stripe.delete_customer(made.id_of(499))  # of the first page
        stripe.update_customer(made.id_of(450), {"account_id": "renamed"})
        stripe.update_customer(made.id_of(1), {"account_id": "renamed too"})
        async with setup(tmp_path, stripe) as here:
            directory = here.directory()
            await directory.load()
            await directory.update()
            assert await customers_of(here, "new", "user-499", "user-450", "renamed", "user-1", "renamed too") == {
                "new": [new],
                "user-499": [],
                "user-450": [],
                "renamed": [made.id_of(450)],
                "user-1": [],
                "renamed too": [made.id_of(1)],
            }


async def test_an_old_listing_is_begun_anew(tmp_path: Path) -> None:
    """What was interrupted more than a day ago, or was of other fields, is not gone on with."""
    async with StripeDouble() as stripe:
        stripe.add_customers(300, "account_id", "user-{}")
        async with setup(tmp_path, stripe) as here:
            await interrupted(here, 2)
        stripe.clock.advance(2 * 86_400)
        async with setup(tmp_path, stripe) as here:
            api = ends_after(here.api, 100)
            directory = here.directory(api)
            await directory.load()
            await directory.update()
            assert (api.asked[0], len(api.asked)) == (("", 0), 3)
            directory = Directory(
                ends_after(here.api, 1), here.open_book.ledger, "", ["account_id", "team"], timedelta(hours=1)
            )
            await directory.load()
            with pytest.raises(Ended):
                await directory.update()
        async with setup(tmp_path, stripe) as here:
            api = ends_after(here.api, 100)
            directory = Directory(api, here.open_book.ledger, "", ["team"], timedelta(hours=1))
            await directory.load()
            await directory.update()
            assert (api.asked[0], len(api.asked)) == (("", 0), 3)


async def test_a_listing_repairs_what_the_events_have_lost(tmp_path: Path) -> None:
    """A change of which no event ever tells is known after a day, by the next listing."""
    async with StripeDouble() as stripe, setup(tmp_path, stripe) as here:
        first = stripe.add_customer({"account_id": "acme"})
        directory = here.directory()
        await directory.load()
        await directory.update()
        stripe.settings.events_lag = stripe.settings.search_lag = 100 * 86_400
        stripe.delete_customer(first)
        second = stripe.add_customer({"account_id": "acme"})
        stripe.clock.advance(86_000)
        await directory.update()
        assert await here.customer_of("acme") == [first]
        stripe.clock.advance(500)
        await directory.update()
        assert await here.customer_of("acme") == [second]


async def test_a_value_of_two_accounts_is_two_customers(tmp_path: Path) -> None:
    """Each account has a directory of its own: one value in both is no ambiguity."""
    async with StripeDouble() as stripe, setup(tmp_path, stripe) as here:
        own = stripe.add_customer({"account_id": "acme"})
        theirs = stripe.add_customer({"account_id": "acme"}, account="acct_1")
        ledger = here.open_book.ledger
        directories = [
            Directory(here.api, ledger, account, ["account_id"], timedelta(hours=1)) for account in ("", "acct_1")
        ]
        for directory in directories:
            await directory.load()
            await directory.update()
        assert await here.customer_of("acme") == [own]
        assert await ledger.known_customers("acct_1", ["account_id"], [theirs, own]) == {
            theirs: {"account_id": "acme"},
            own: {},
        }


def _changes(customers: Mapping[str, str]) -> list[CustomerChange]:
    return [CustomerChange(customer, {"account_id": user}) for user, customer in customers.items()]


async def frozen(here: Book, now: float, *users: str) -> dict[str, str]:
    """Customer by value 1, 2, ... of usage that is frozen now."""
    await here.commit(batch(*(record(user, at=now) for user in users)), now)
    return {event.customer: event.value for event in await here.freeze(now + 60)}


async def test_the_end_of_a_listing_forgets_who_is_gone(tmp_path: Path) -> None:
    """However many there are, who was not shown is forgotten, who was is kept, and who came meanwhile, too."""
    everybody = {f"user-{n:05}": f"cus_{n:05}" for n in range(12_000)}
    async with book(tmp_path) as here:
        await here.list_customers(everybody)
        listing = await here.ledger.begin_listing("", here.fields, NOON)
        shown = {user: customer for user, customer in everybody.items() if int(customer[4:]) % 3}
        listing = await here.ledger.list_page("", listing, _changes(shown), 7)
        await here.ledger.apply_customers("", here.fields, _changes({"new": "cus_new"}), listing.generation)
        await here.ledger.finish_listing("", here.fields, listing.generation, NOON)
        asked = [*list(everybody)[:3], *list(everybody)[-3:], "new"]
        assert set(await frozen(here, NOON, *asked)) == {everybody[one] for one in asked[:-1] if one in shown} | {
            "cus_new"
        }
        state = await here.ledger.directory("", here.fields)
        assert (state.customers, state.listing, state.listed) == (8_000, None, {"account_id": NOON})


async def test_generations_grow_whatever_the_clock_says(tmp_path: Path) -> None:
    """A listing that begins in the past, by a clock that was put back, is told from the one before."""
    async with book(tmp_path) as here:
        first = await here.ledger.begin_listing("", here.fields, NOON)
        second = await here.ledger.begin_listing("", here.fields, NOON - 1_000_000)
        assert second.generation > first.generation
        state = await here.ledger.directory("", here.fields)
        assert state.listing == second


async def test_a_look_up_follows_every_change(tmp_path: Path) -> None:
    """What was looked up once is looked up again after a change, a removal, and a listing."""
    async with book(tmp_path) as here:
        await here.list_customers({"acme": "cus_1"})
        assert await frozen(here, NOON, "acme") == {"cus_1": "1"}
        await here.ledger.apply_customers("", here.fields, [CustomerChange("cus_1", {"account_id": "other"})], 2)
        await here.ledger.apply_customers("", here.fields, _changes({"acme": "cus_2"}), 2)
        assert await frozen(here, NOON + 100, "acme", "other") == {"cus_1": "1", "cus_2": "1"}
        await here.ledger.apply_customers("", here.fields, _changes({"acme": "cus_3"}), 2)
        assert await frozen(here, NOON + 200, "acme") == {}  # two customers have it
        await here.list_customers({"acme": "cus_3"}, 5)
        assert set(await frozen(here, NOON + 300, "acme")) == {"cus_3"}
        await here.ledger.apply_customers("", here.fields, [CustomerChange("cus_3", None)], 5)
        assert await frozen(here, NOON + 400, "acme") == {}


async def test_odd_values_are_looked_up_as_they_are(tmp_path: Path) -> None:
    """Quotes, controls and characters beyond the basic plane stand for themselves, and a NUL ends nothing."""
    odd = {'"': "cus_a", "a\\u0062": "cus_b", "\U0001f40d": "cus_c", "x": "cus_d", "": "cus_e", "A": "cus_f"}
    async with book(tmp_path) as here:
        await here.list_customers(odd)
        for number, (user, customer) in enumerate(odd.items()):
            expected = {customer: "1"} if user else {}
            assert await frozen(here, NOON + 100 * number, user) == expected, user
        assert await frozen(here, NOON + 1_000, "x", "x\0y", "a") == {"cus_d": "1"}


async def test_how_far_a_listing_is_can_be_seen(tmp_path: Path) -> None:
    """`doctor` shows a bar where an earlier listing tells how many there are."""
    async with book(tmp_path) as here:
        first = await here.ledger.begin_listing("", here.fields, NOON)
        shown = {f"user-{n}": f"cus_{n}" for n in range(8)}
        await here.ledger.list_page("", first, _changes(shown), 7)
        assert said_of(here) == [
            "8 customers have account_id; not all were read yet",
            "customers are being listed: 8 so far",
        ]
        await here.ledger.finish_listing("", here.fields, first.generation, NOON)
        second = await here.ledger.begin_listing("", here.fields, NOON)
        await here.ledger.list_page("", second, _changes({"user-7": "cus_7", "user-6": "cus_9"}), 7)
        assert said_of(here) == [
            "values of account_id that several customers have: 1, such as user-6",
            "9 customers have account_id",
            "customers are being listed: [#####               ] 25%, 2 of about 8",
        ]


def said_of(here: Book) -> list[str]:
    """What `doctor` says of the directory."""
    outlet = SimpleNamespace(fields={("", "account_id")})
    state = condition(here.directory, "stripe_meter test", 0.0)
    return [finding.text for finding in _directory(state, outlet, "exporters::stripe_meter")]  # type: ignore[arg-type]
