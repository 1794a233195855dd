"""Customers by the million, and what reading them takes from the read allocation."""

import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import stripe
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import ManualClock, RateLimits, Settings, StripeDouble
from otel_usageflow.testing.stripe.snapshot import load, save

MILLION = 1_000_000
NOW = 1_790_000_000


@pytest.fixture
async def double() -> AsyncIterator[StripeDouble]:
    """A double without rate limits, whose clock stands still."""
    async with StripeDouble(clock=ManualClock(NOW), settings=Settings(limits=RateLimits.off())) as running:
        yield running


async def ids(client: stripe.StripeClient, **params: Any) -> list[str]:
    """Every id of a list, page by page."""
    found = []
    given: Any = {"limit": 100, **params}
    async for customer in (await client.v1.customers.list_async(given)).auto_paging_iter():
        found.append(customer.id)
    return found


async def test_they_are_customers_as_any(double: StripeDouble) -> None:
    """They are listed newest first among the others, found, changed, deleted and billed."""
    double.add_meter("api_request")
    before = double.add_customer({"account_id": "before"})
    many = double.add_customers(250, "account_id", "User-{}", spread=1_000)
    after = double.add_customer({"account_id": "after"})
    async with sdk(double) as client:
        assert await ids(client) == [after, *(many.id_of(number) for number in reversed(range(250))), before]
        seventh: Any = await client.v1.customers.retrieve_async(many.id_of(7))
        assert (seventh.metadata.to_dict(), seventh.created) == ({"account_id": "User-7"}, NOW - 1_000 + 28)
        recent = await ids(client, created={"gt": NOW - 1_000 + 28})
        assert recent == [after, *(many.id_of(number) for number in reversed(range(8, 250)))]
        for query, wanted in (
            ("metadata['account_id']:'USER-7'", [many.id_of(7)]),
            ("metadata['account_id']:'user-07'", []),
            ("metadata['account_id']:'user-250'", []),
            ("metadata['account_id']:'after'", [after]),
            ("metadata['other']:'user-7'", []),
            ("metadata['account_id']:'user-7' OR metadata['account_id']:'before'", [many.id_of(7), before]),
            ("-metadata['account_id']:'user-7' AND metadata['account_id']:'user-8'", [many.id_of(8)]),
        ):
            assert [one.id for one in (await client.v1.customers.search_async({"query": query})).data] == wanted
        await client.v1.customers.update_async(many.id_of(8), {"metadata": {"account_id": "renamed"}})
        await client.v1.customers.delete_async(many.id_of(9))
        for value, found in (("renamed", [many.id_of(8)]), ("user-8", []), ("user-9", [])):
            query = f"metadata['account_id']:'{value}'"
            assert [one.id for one in (await client.v1.customers.search_async({"query": query})).data] == found
        assert len(await ids(client)) == 251
        events = (await client.v1.events.list_async({"types": ["customer.updated", "customer.deleted"]})).data
        assert [event.data.object["id"] for event in events] == [many.id_of(9), many.id_of(8)]
        await send(client, many.id_of(7), "5", timestamp=NOW)
    assert double.total("api_request", many.id_of(7)) == 5


async def test_search_sees_them_with_its_lag(double: StripeDouble) -> None:
    """New ones are not seen yet, and a change is seen late, for many as for one."""
    double.settings.search_lag = 60
    many = double.add_customers(10, "account_id", "user-{}")
    query: Any = {"query": "metadata['account_id']:'user-3'"}
    async with sdk(double) as client:
        assert (await client.v1.customers.search_async(query)).data == []
        double.clock.advance(60)
        assert [one.id for one in (await client.v1.customers.search_async(query)).data] == [many.id_of(3)]
        double.update_customer(many.id_of(3), {"account_id": "renamed"})
        assert [one.id for one in (await client.v1.customers.search_async(query)).data] == [many.id_of(3)]
        double.clock.advance(60)
        assert (await client.v1.customers.search_async(query)).data == []


async def test_each_may_have_a_value_of_its_own(double: StripeDouble) -> None:
    """Values are given one by one, twice the same too; too few are refused, and so is a pattern without a place."""
    many = double.add_customers(3, "account_id", ["a", "B", "b"])
    async with sdk(double) as client:
        found = (await client.v1.customers.search_async({"query": "metadata['account_id']:'b'"})).data
    assert [one.id for one in found] == [many.id_of(2), many.id_of(1)]
    for count, value in ((2, ["a"]), (2, "user"), (2, "{}{}")):
        with pytest.raises(ValueError, match=r"values|must have"):
            double.add_customers(count, "account_id", value)


async def test_no_id_is_that_of_another(double: StripeDouble) -> None:
    """Ids differ and lead back to their customer; those that look like one are unknown."""
    many = double.add_customers(10_000, "account_id")
    made = [many.id_of(number) for number in range(10_000)]
    assert len(set(made)) == 10_000
    assert [many.number_of(one) for one in made] == list(range(10_000))
    for wrong in (made[0][:-1], made[0] + "0", made[0][:-1] + "-", "cus_", f"cus_{many.mark}zzzzzzzz"):
        assert many.number_of(wrong) is None
    with pytest.raises(IndexError):
        many.id_of(10_000)


async def test_a_million_take_next_to_no_memory(double: StripeDouble) -> None:
    """Made, some read, some changed: less than 10 MB in all."""
    tracemalloc.start()
    try:
        many = double.add_customers(MILLION, "account_id")
        async with sdk(double) as client:
            page = await client.v1.customers.list_async({"limit": 100, "starting_after": many.id_of(500_000)})
            assert page.data[0].id == many.id_of(499_999)
            query: Any = {"query": "metadata['account_id']:'user-999999'"}
            assert (await client.v1.customers.search_async(query)).data[0].id == many.id_of(999_999)
        for number in range(0, MILLION, 10_000):
            double.update_customer(many.id_of(number), {"account_id": f"new-{number}"})
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


async def test_they_survive_a_restart(double: StripeDouble, tmp_path: Path) -> None:
    """The state file has them as one rule, with what was changed since."""
    many = double.add_customers(MILLION, "account_id")
    double.delete_customer(many.id_of(1))
    double.update_customer(many.id_of(2), {"account_id": "renamed"})
    save(double.api, tmp_path / "state.json")
    assert (tmp_path / "state.json").stat().st_size < 10_000
    other = StripeDouble()
    load(other.api, tmp_path / "state.json")
    customers = other.account().customers
    assert len(customers.all) == MILLION
    assert customers.find(many.id_of(1)).deleted
    assert customers.find(many.id_of(2)).metadata == {"account_id": "renamed"}
    assert customers.find(many.id_of(3)).metadata == {"account_id": "user-3"}


async def test_reads_of_30_days_are_counted(double: StripeDouble) -> None:
    """Every GET counts for its account, also a search and one that finds nothing; after 30 days it counts no more."""
    async with sdk(double) as client:
        await client.v1.customers.list_async()
        await client.v1.customers.search_async({"query": "metadata['a']:'b'"})
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.customers.retrieve_async("cus_none")
        await client.v1.customers.create_async({})
        await client.v1.customers.list_async(options={"stripe_account": "acct_1"})
        assert (double.reads_of_30_days(), double.reads_of_30_days(account="acct_1")) == (3, 1)
        double.clock.advance(15 * 86_400)
        await client.v1.customers.list_async()
        assert double.reads_of_30_days() == 4
        double.clock.advance(15 * 86_400)
        assert double.reads_of_30_days() == 1
        double.clock.advance(60 * 86_400)
        assert double.reads_of_30_days() == 0


async def test_the_allocation_can_be_enforced(double: StripeDouble) -> None:
    """Used up, further reads are a 429, until days have passed; writing goes on."""
    double.settings.read_allocation = 2
    async with sdk(double) as client:
        for _ in range(2):
            await client.v1.customers.list_async()
        with pytest.raises(stripe.RateLimitError) as caught:
            await client.v1.customers.list_async()
        assert caught.value.headers is not None
        assert caught.value.headers["Stripe-Rate-Limited-Reason"] == "resource-specific"
        await client.v1.customers.create_async({})
        double.clock.advance(30 * 86_400)
        await client.v1.customers.list_async()
    assert double.reads_of_30_days() == 1
