"""Stripe, customers: objects, lists, search that lags, and the events that tell of changes."""

from typing import Any

import pytest
import stripe
from stripe_sdk import sdk

from otel_usageflow.testing.stripe import ManualClock, RateLimits, Settings, StripeDouble

NOW = 1_790_000_000
DAY = 86_400


@pytest.fixture
async def double() -> Any:
    """A double whose clock stands still."""
    async with StripeDouble(clock=ManualClock(NOW), settings=Settings(limits=RateLimits.off())) as running:
        yield running


async def search(client: stripe.StripeClient, query: str) -> list[str]:
    """The ids that a query finds."""
    found = await client.v1.customers.search_async({"query": query, "limit": 100})
    return [customer.id for customer in found.data]


async def test_a_customer_is_made_changed_and_read(double: StripeDouble) -> None:
    """Metadata is merged by updates, and an empty string removes a key."""
    async with sdk(double) as client:
        made = await client.v1.customers.create_async(
            {"email": "a@b.c", "metadata": {"account_id": "acme", "tier": "1"}, "address": {"country": "DE"}}
        )
        await client.v1.customers.update_async(made.id, {"metadata": {"tier": "", "region": "eu"}, "name": "Acme"})
        read = await client.v1.customers.retrieve_async(made.id)
    assert read.metadata is not None
    assert read.metadata.to_dict() == {"account_id": "acme", "region": "eu"}
    assert (read.name, read.email, read.created, read.livemode) == ("Acme", "a@b.c", NOW, False)


async def test_a_deleted_customer_is_still_answered(double: StripeDouble) -> None:
    """A deleted customer is a 200 with `deleted`, is left out of lists, and cannot be changed."""
    customer = double.add_customer()
    async with sdk(double) as client:
        gone = await client.v1.customers.delete_async(customer)
        read = await client.v1.customers.retrieve_async(customer)
        listed = await client.v1.customers.list_async({})
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.customers.update_async(customer, {"name": "x"})
    assert read.to_dict() == gone.to_dict() == {"id": customer, "object": "customer", "deleted": True}
    assert listed.data == []


async def test_an_unknown_customer_is_a_missing_resource(double: StripeDouble) -> None:
    """An id that never was is a 404 `resource_missing`."""
    async with sdk(double) as client:
        with pytest.raises(stripe.InvalidRequestError) as caught:
            await client.v1.customers.retrieve_async("cus_x")
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (404, "resource_missing", "id")
    assert caught.value.user_message == "No such customer: 'cus_x'"


@pytest.mark.parametrize(
    "metadata", [{"k" * 41: "v"}, {"k": "v" * 501}, {f"k{n}": "v" for n in range(51)}], ids=["key", "value", "keys"]
)
async def test_metadata_has_limits(double: StripeDouble, metadata: dict[str, str]) -> None:
    """50 keys of 40 characters with values of 500, and no more."""
    async with sdk(double) as client:
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.customers.create_async({"metadata": metadata})
        largest = {f"{n:k<40}": "v" * 500 for n in range(50)}
        await client.v1.customers.create_async({"metadata": largest})


async def test_lists_are_newest_first_and_paged(double: StripeDouble) -> None:
    """Pages of a list follow each other without gap or repetition, in both directions."""
    made = [double.add_customer({"n": str(n)}) for n in range(25)]
    double.delete_customer(made[12])
    expected = [customer for customer in reversed(made) if customer != made[12]]
    async with sdk(double) as client:
        first = await client.v1.customers.list_async({})
        assert [customer.id for customer in first.data] == expected[:10]
        assert first.has_more
        pages = await client.v1.customers.list_async({"limit": 7})
        assert [customer.id async for customer in pages.auto_paging_iter()] == expected
        back = await client.v1.customers.list_async({"limit": 7, "ending_before": expected[10]})
        assert [customer.id for customer in back.data] == expected[3:10]
        assert back.has_more
        front = await client.v1.customers.list_async({"limit": 7, "ending_before": expected[3]})
        assert [customer.id for customer in front.data] == expected[:3]
        assert not front.has_more
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.customers.list_async({"limit": 101})
        with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
            await client.v1.customers.list_async({"starting_after": "cus_x"})


async def test_lists_are_narrowed_by_creation_and_email(double: StripeDouble) -> None:
    """`created[...]` bounds are inclusive or exclusive as they say; `email` is compared exactly."""
    ids = []
    for n in range(5):
        ids.append(double.add_customer(email=f"A{n}@b.c"))
        double.clock.advance(10)

    async def listed(client: stripe.StripeClient, **params: Any) -> list[str]:
        answer = await client.v1.customers.list_async(params)  # type: ignore[arg-type]
        return [customer.id for customer in reversed(answer.data)]

    async with sdk(double) as client:
        assert await listed(client, created={"gte": NOW + 10, "lt": NOW + 40}) == ids[1:4]
        assert await listed(client, created={"gt": NOW + 10, "lte": NOW + 40}) == ids[2:5]
        assert await listed(client, created=NOW + 20) == ids[2:3]
        assert await listed(client, email="A3@b.c") == ids[3:4]
        assert await listed(client, email="a3@b.c") == []


async def test_search_matches_metadata_without_regard_to_case(double: StripeDouble) -> None:
    """A metadata clause matches the whole value in any case: two customers may be found for one wanted."""
    acme, other = double.add_customer({"account_id": "acme"}), double.add_customer({"account_id": "ACME"})
    double.add_customer({"account_id": "acme-2"})
    async with sdk(double) as client:
        assert await search(client, 'metadata["account_id"]:"Acme"') == [other, acme]
        assert await search(client, "metadata['account_id']:'acm'") == []


async def test_search_reads_escaped_quotes(double: StripeDouble) -> None:
    r"""A quote or backslash in a value is escaped, and an escaped value does not widen the query."""
    odd = 'a"b\\c'
    customer = double.add_customer({"id": odd})
    double.add_customer({"id": "x"})
    escaped = odd.replace("\\", "\\\\").replace('"', '\\"')
    async with sdk(double) as client:
        assert await search(client, f'metadata["id"]:"{escaped}"') == [customer]
        sneaky = 'x\\" OR metadata[\\"id\\"]:\\"x'
        assert await search(client, f'metadata["id"]:"{sneaky}"') == []


async def test_search_joins_clauses(double: StripeDouble) -> None:
    """Clauses are joined by AND, a space, or OR, never by both; presence is `-...:null`."""
    one = double.add_customer({"a": "1", "b": "1"}, email="one@example.org")
    two = double.add_customer({"a": "1"}, email="two@example.org")
    three = double.add_customer({"a": "3"})
    async with sdk(double) as client:
        assert await search(client, 'metadata["a"]:"1" AND metadata["b"]:"1"') == [one]
        assert await search(client, 'metadata["a"]:"1" metadata["b"]:"1"') == [one]
        assert await search(client, 'metadata["a"]:"3" OR metadata["b"]:"1"') == [three, one]
        assert await search(client, '-metadata["a"]:"1"') == [three]
        assert await search(client, '-metadata["b"]:null') == [one]
        assert await search(client, 'metadata["b"]:null') == [three, two]
        assert await search(client, 'email~"EXAMPLE"') == [two, one]
        assert await search(client, f'email:"two@example.org" AND created>={NOW}') == [two]
        for bad in ('a:"1" AND b:"2" OR c:"3"', "acme", 'metadata["a"]:"1" AND', 'email~"ab"', 'colour:"red"'):
            with pytest.raises(stripe.InvalidRequestError):
                await search(client, bad)


async def test_search_pages_by_token(double: StripeDouble) -> None:
    """Pages of a search follow each other, and a token belongs to its query."""
    made = [double.add_customer({"kind": "x"}) for _ in range(25)]
    async with sdk(double) as client:
        first = await client.v1.customers.search_async({"query": 'metadata["kind"]:"x"', "limit": 10})
        assert first.has_more
        assert [customer.id async for customer in first.auto_paging_iter()] == made[::-1]
        assert first.next_page is not None
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.customers.search_async({"query": 'email:"a"', "page": first.next_page})


async def test_search_lags_behind(double: StripeDouble) -> None:
    """Search sees creation, change and deletion only after the lag; retrieving sees them at once."""
    double.settings.search_lag = 60
    query = 'metadata["account_id"]:"acme"'
    async with sdk(double) as client:
        customer = double.add_customer({"account_id": "acme"})
        assert await search(client, query) == []
        assert (await client.v1.customers.retrieve_async(customer)).id == customer
        double.clock.advance(60)
        assert await search(client, query) == [customer]
        double.update_customer(customer, {"account_id": "globex"})
        double.clock.advance(59)
        assert await search(client, query) == [customer]
        double.clock.advance(1)
        assert await search(client, query) == []
        assert await search(client, 'metadata["account_id"]:"globex"') == [customer]
        double.delete_customer(customer)
        double.clock.advance(60)
        assert await search(client, 'metadata["account_id"]:"globex"') == []


async def test_events_tell_what_changed(double: StripeDouble) -> None:
    """Creation, change and deletion make events, newest first; a change names the old values."""
    async with sdk(double) as client:
        customer = double.add_customer({"account_id": "acme", "tier": "1"}, name="A")
        await client.v1.customers.update_async(customer, {"metadata": {"account_id": "new", "x": "y"}, "name": "A"})
        await client.v1.customers.update_async(customer, {"name": "A"})  # changes nothing, so tells nothing
        await client.v1.customers.delete_async(customer)
        events = (await client.v1.events.list_async({"type": "customer.*"})).data
    assert [event.type for event in events] == ["customer.deleted", "customer.updated", "customer.created"]
    assert events[0].data.object["metadata"]["account_id"] == "new"
    previous = events[1].data.previous_attributes
    assert previous is not None
    assert previous["metadata"].to_dict() == {"account_id": "acme", "x": None}
    assert "name" not in previous
    assert events[2].data.object["metadata"].to_dict() == {"account_id": "acme", "tier": "1"}


async def test_events_are_narrowed_and_paged(double: StripeDouble) -> None:
    """Events are listed by type, types, wildcard and creation, in pages without gap or repetition."""
    double.add_meter("api_request")
    double.deactivate_meter("api_request")
    made = []
    for _ in range(23):
        double.clock.advance(1)
        made.append(double.add_customer())
    async with sdk(double) as client:
        pages = await client.v1.events.list_async({"type": "customer.created", "limit": 5})
        found = [event.data.object["id"] async for event in pages.auto_paging_iter()]
        assert found == made[::-1]
        types: Any = ["billing.meter.created", "billing.meter.deactivated"]
        meters = await client.v1.events.list_async({"types": types})
        assert [event.type for event in meters.data] == types[::-1]
        late = await client.v1.events.list_async({"created": {"gte": NOW + 20}, "type": "customer.*"})
        assert [event.data.object["id"] for event in late.data] == made[:18:-1]
        one = await client.v1.events.retrieve_async(late.data[0].id)
        assert one.type == "customer.created"
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.events.list_async({"starting_after": "evt_x"})


async def test_events_are_kept_for_thirty_days_and_may_lag(double: StripeDouble) -> None:
    """Events appear after their lag and are gone after 30 days."""
    double.settings.events_lag = 5
    double.add_customer()
    async with sdk(double) as client:
        for seconds, seen in ((0, 0), (4, 0), (1, 1), (30 * DAY - 5, 1), (1, 0)):
            double.clock.advance(seconds)
            assert len((await client.v1.events.list_async({})).data) == seen
