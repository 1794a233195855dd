"""Stripe, `/v2/core/events`: the error reports about meter events, seen through the real client."""

from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import stripe
from stripe.events import V1BillingMeterErrorReportTriggeredEvent, V1BillingMeterNoMeterFoundEvent
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import Fault, ManualClock, StripeDouble

DAY = 86_400
NOW = 1_790_000_000
TRIGGERED = "v1.billing.meter.error_report_triggered"
NOT_FOUND = "v1.billing.meter.no_meter_found"


@pytest.fixture
async def double() -> Any:
    """A double with one meter that validates later; its clock stands still at the beginning of a window."""
    async with StripeDouble(clock=ManualClock(NOW)) as running:
        running.add_meter("api_request")
        running.settings.validation = "asynchronous"
        yield running


@pytest.fixture
def customer(double: StripeDouble) -> str:
    """One customer."""
    return double.add_customer()


def moment(seconds: float) -> str:
    """As v2 writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


async def report_per_window(double: StripeDouble, client: stripe.StripeClient, count: int) -> list[str]:
    """Make one report in each of `count` windows; their ids, newest first."""
    for number in range(count):
        await send(client, "cus_x", identifier=f"r{number}", timestamp=NOW)
        double.clock.advance(10)
    return [report["id"] for report in double.reports()]


async def test_a_report_tells_all_through_the_client(double: StripeDouble, customer: str) -> None:
    """The client parses a report as its own class: window, counts by code, and the keys of the requests."""
    async with sdk(double) as client:
        await send(client, "cus_x", identifier="a", key="key-a", timestamp=NOW)
        await send(client, customer, "x", identifier="b", key="key-b", timestamp=NOW)
        await send(client, "cus_y", identifier="c", key="key-c", timestamp=NOW)
        double.clock.advance(10)
        (listed,) = (await client.v2.core.events.list_async({"types": [TRIGGERED]})).data
        event = await client.v2.core.events.retrieve_async(listed.id)
    meter = double.account().meters.all[0].id
    assert isinstance(event, V1BillingMeterErrorReportTriggeredEvent)
    assert (event.type, event.created, event.livemode, event.context) == (TRIGGERED, moment(NOW + 10), False, None)
    assert event.related_object.to_dict() == {
        "id": meter,
        "type": "billing.meter",
        "url": f"/v1/billing/meters/{meter}",
    }
    assert event.data.developer_message_summary == "There are 3 invalid events"
    assert (event.data.validation_start, event.data.validation_end) == (moment(NOW), moment(NOW + 10))
    assert event.data.reason.error_count == 3
    found = {
        kind.code: (kind.error_count, [(each.request.identifier, each.error_message) for each in kind.sample_errors])
        for kind in event.data.reason.error_types
    }
    assert found == {
        "meter_event_customer_not_found": (
            2,
            [("key-a", "No such customer: 'cus_x'"), ("key-c", "No such customer: 'cus_y'")],
        ),
        "meter_event_invalid_value": (1, [("key-b", "The value must be a number in plain digits, got 'x'.")]),
    }


async def test_events_without_a_meter_are_reported_apart(double: StripeDouble, customer: str) -> None:
    """A name without a meter makes a `no_meter_found`, which relates to no object."""
    async with sdk(double) as client:
        await send(client, customer, event_name="other", timestamp=NOW)
        double.clock.advance(10)
        assert (await client.v2.core.events.list_async({"types": [TRIGGERED]})).data == []
        (listed,) = (await client.v2.core.events.list_async({"types": [TRIGGERED, NOT_FOUND]})).data
        event = await client.v2.core.events.retrieve_async(listed.id)
    assert isinstance(event, V1BillingMeterNoMeterFoundEvent)
    (kind,) = event.data.reason.error_types
    assert (kind.code, kind.sample_errors[0].error_message) == (
        "no_meter",
        "No meter was found matching event_name other.",
    )


async def test_a_report_appears_after_its_window_and_its_delay(double: StripeDouble) -> None:
    """Nothing is to be seen before the window of 10 seconds has ended and the delay has passed."""
    double.settings.report_delay = 30
    double.clock.advance(3)
    async with sdk(double) as client:
        await send(client, "cus_x", timestamp=NOW)
        double.clock.advance(36)
        assert (await client.v2.core.events.list_async()).data == []
        double.clock.advance(1)
        (listed,) = (await client.v2.core.events.list_async()).data
    assert listed.created == moment(NOW + 40)


async def test_each_window_and_meter_has_its_report(double: StripeDouble) -> None:
    """Ten seconds and another meter make another report."""
    other = double.add_meter("tokens")
    async with sdk(double) as client:
        for name, wait in (("api_request", 9), ("tokens", 0), ("api_request", 1), ("api_request", 10)):
            identifier = f"{name}{double.clock.now()}"
            await send(client, "cus_x", identifier=identifier, event_name=name, timestamp=NOW)
            double.clock.advance(wait)
        all_of_them = (await client.v2.core.events.list_async()).data
        of_one = (await client.v2.core.events.list_async({"object_id": other})).data
    assert [event.created for event in all_of_them] == [moment(NOW + at) for at in (20, 10, 10)]
    assert len(of_one) == 1
    counts = sorted(report["data"]["reason"]["error_count"] for report in double.reports())
    assert counts == [1, 1, 2]


@pytest.mark.parametrize("samples", [0, 2])
async def test_samples_are_fewer_than_errors(double: StripeDouble, samples: int) -> None:
    """The counts tell of all errors, the samples only of some, or of none."""
    double.settings.report_samples = samples
    async with sdk(double) as client:
        for number in range(5):
            await send(client, "cus_x", identifier=f"e{number}", timestamp=NOW)
        double.clock.advance(10)
        (listed,) = (await client.v2.core.events.list_async()).data
        event: Any = await client.v2.core.events.retrieve_async(listed.id)
    (kind,) = event.data.reason.error_types
    assert (event.data.reason.error_count, kind.error_count, len(kind.sample_errors)) == (5, 5, samples)


async def test_both_documented_shapes_can_be_had(double: StripeDouble) -> None:
    """A sample's request is `{identifier}`, or `{id, idempotency_key}` where a test says so."""
    async with sdk(double) as client:
        await send(client, "cus_x", identifier="e1", key="k1", timestamp=NOW)
    double.clock.advance(10)

    def request() -> Any:
        return double.reports()[0]["data"]["reason"]["error_types"][0]["sample_errors"][0]["request"]

    assert request() == {"identifier": "k1"}
    double.settings.report_request = "id_and_key"
    assert request() == {"id": "", "idempotency_key": "k1"}


@pytest.mark.parametrize("carries", [False, True])
async def test_a_list_may_leave_the_data_out(double: StripeDouble, carries: bool) -> None:
    """Whether the items of a list carry `data` is a setting; the event itself always does."""
    double.settings.report_list_data = carries
    async with sdk(double) as client:
        await send(client, "cus_x", timestamp=NOW)
        double.clock.advance(10)
        (listed,) = (await client.v2.core.events.list_async()).data
        event = await client.v2.core.events.retrieve_async(listed.id)
    assert hasattr(listed, "data") is carries
    assert hasattr(event, "data")


async def test_pages_have_neither_gap_nor_repetition(double: StripeDouble) -> None:
    """Following `next_page_url` gives every event once, newest first, even when new ones appear meanwhile."""
    async with sdk(double) as client:
        expected = await report_per_window(double, client, 7)
        page = await client.v2.core.events.list_async({"limit": 3, "types": [TRIGGERED]})
        await send(client, "cus_x", identifier="late", timestamp=NOW)
        double.clock.advance(10)
        assert [event.id async for event in page.auto_paging_iter()] == expected
        assert [event.id for event in page.data] == expected[:3]
        whole = await client.v2.core.events.list_async({"limit": 100})
        assert len(whole.data) == 8
        assert whole.next_page_url is None


async def test_pages_go_back(double: StripeDouble) -> None:
    """`previous_page_url` leads back to the page before."""
    async with sdk(double) as client, aiohttp.ClientSession() as session:
        expected = await report_per_window(double, client, 5)
        headers = {"Authorization": f"Bearer {double.api_key}", "Stripe-Version": "2026-10-28.endive"}

        async def get(path: str) -> Any:
            async with session.get(double.url + path, headers=headers) as answer:
                assert answer.status == 200
                return await answer.json()

        first = await get("/v2/core/events?limit=2")
        second = await get(first["next_page_url"])
        back = await get(second["previous_page_url"])
    assert [event["id"] for event in second["data"]] == expected[2:4]
    assert [event["id"] for event in back["data"]] == expected[:2]
    assert (first["previous_page_url"], back["previous_page_url"]) == (None, None)


@pytest.mark.parametrize(
    ("bounds", "places"),
    [
        ({"gte": NOW + 20}, [0, 1]),
        ({"gt": NOW + 20}, [0]),
        ({"lte": NOW + 20}, [1, 2]),
        ({"lt": NOW + 20}, [2]),
        ({"gte": NOW + 20, "lt": NOW + 30}, [1]),
    ],
)
async def test_creation_narrows(double: StripeDouble, bounds: dict[str, int], places: list[int]) -> None:
    """`created[...]` takes moments in RFC 3339, each bound as it is named."""
    async with sdk(double) as client:
        expected = await report_per_window(double, client, 3)
        created: Any = {name: moment(bound) for name, bound in bounds.items()}
        found = (await client.v2.core.events.list_async({"created": created})).data
    assert [event.id for event in found] == [expected[place] for place in places]


async def test_reports_are_gone_after_30_days(double: StripeDouble) -> None:
    """A report older than 30 days is neither listed nor found."""
    async with sdk(double) as client:
        (identity,) = await report_per_window(double, client, 1)
        double.clock.advance(30 * DAY)
        assert (await client.v2.core.events.retrieve_async(identity)).id == identity
        double.clock.advance(1)
        assert (await client.v2.core.events.list_async()).data == []
        with pytest.raises(stripe.InvalidRequestError) as caught:
            await client.v2.core.events.retrieve_async(identity)
    assert (caught.value.http_status, caught.value.code) == (404, "not_found")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "page=nonsense", "created[gte]=1790000000", "created[gte]=2026-11-22", "colour=red"],
)
async def test_what_makes_no_sense_is_refused_in_the_shape_of_v2(double: StripeDouble, query: str) -> None:
    """A bad parameter is a 400 that has a code and a message, and nothing more."""
    headers = {"Authorization": f"Bearer {double.api_key}", "Stripe-Version": "2026-10-28.endive"}
    path = f"{double.url}/v2/core/events?{query}"
    async with aiohttp.ClientSession() as session, session.get(path, headers=headers) as answer:
        assert answer.status == 400
        assert set((await answer.json())["error"]) == {"code", "message"}


async def test_v2_wants_a_version_and_a_key(double: StripeDouble) -> None:
    """Without `Stripe-Version` a call is a 400, without a known key a 401, both in the shape of v2."""
    path = f"{double.url}/v2/core/events"
    async with aiohttp.ClientSession() as session:
        for headers, status in (
            ({"Authorization": f"Bearer {double.api_key}"}, 400),
            ({"Authorization": "Bearer sk_test_other", "Stripe-Version": "2026-10-28.endive"}, 401),
        ):
            async with session.get(path, headers=headers) as answer:
                assert answer.status == status
                assert set((await answer.json())["error"]) == {"code", "message"}


async def test_faults_strike_v2_too(double: StripeDouble) -> None:
    """A fault under `/v2` is answered in its shape, which the client understands."""
    double.fault("/v2/core/events", Fault.RATE_LIMITED)
    double.fault("/v2/core/events", Fault.UNAVAILABLE)
    async with sdk(double) as client:
        with pytest.raises(stripe.RateLimitError):
            await client.v2.core.events.list_async()
        with pytest.raises(stripe.APIError):
            await client.v2.core.events.list_async()
        assert (await client.v2.core.events.list_async()).data == []


async def test_an_account_can_be_named_by_context(double: StripeDouble) -> None:
    """`Stripe-Context` selects a connected account, its last part if it is a path."""
    double.add_meter("api_request", account="acct_1")
    async with sdk(double, account="acct_1") as client:
        await send(client, "cus_x", timestamp=NOW)
    double.clock.advance(10)
    async with sdk(double) as client:
        assert (await client.v2.core.events.list_async()).data == []
        for context in ("acct_1", "acct_0/acct_1"):
            (event,) = (await client.v2.core.events.list_async({}, {"stripe_context": context})).data
            assert event.context == "acct_1"
