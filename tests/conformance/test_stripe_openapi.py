"""What we send to Stripe, and what the double answers, against the schemas that Stripe publishes."""

import inspect
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import stripe
from billing import batch, billing, record
from recording_proxy import Exchange, RecordingProxy
from stripe_openapi import problems

from otel_usageflow.exporters.stripe_meter.api import StripeApi, connect
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.stream import wire_event
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.testing.stripe import Fault, ManualClock, RateLimits, Settings, StripeDouble

NOW = 1_790_000_000
METER = Meter("api_request", "sum", active=True)


@pytest.fixture
async def double() -> AsyncIterator[StripeDouble]:
    """A double with a meter, whose clock stands still."""
    async with StripeDouble(clock=ManualClock(NOW)) as running:
        running.add_meter("api_request")
        yield running


@pytest.fixture
async def proxy(double: StripeDouble) -> AsyncIterator[RecordingProxy]:
    """What lies between us and the double."""
    async with RecordingProxy(double.url) as running:
        yield running


def config(proxy: RecordingProxy, key: str = "sk_test_double") -> StripeMeterConfig:
    """An exporter's configuration that leads through the proxy."""
    endpoints = {"api": proxy.url, "meter_events": proxy.url, "connect": proxy.url}
    values = {"api_key": key, "endpoints": endpoints, "sending_queue": {"storage": "x"}, "timeout": "5s"}
    return StripeMeterConfig.model_validate(values)


def event(customer: str, identifier: str = "id-1", value: str = "1.5", **more: Any) -> MeterEvent:
    """A meter event as the ledger hands it out."""
    fields: dict[str, Any] = {
        "event_id": 1,
        "account": "",
        "event_name": "api_request",
        "customer": customer,
        "payload": {"model": "large"},
        "value": value,
        "timestamp": NOW,
        "identifier": identifier,
        "idempotency_key": identifier,
    }
    known = inspect.signature(MeterEvent).parameters
    return MeterEvent(**{name: one for name, one in (fields | more).items() if name in known})


async def every_call(api: StripeApi, double: StripeDouble) -> set[str]:
    """Make every call that there is, as it is made in earnest; the names of the methods."""
    customer = double.add_customer({"account_id": "acme"}, name="Acme", email="acme@example.com")
    gone = double.add_customer({"account_id": "gone"})
    double.update_customer(customer, {"account_id": "acme2"})
    double.delete_customer(gone)
    double.reject("api_request", "meter_event_customer_not_found")
    await api.create_meter_event(event(customer, "rejected"), METER)
    await api.create_meter_event(event(customer), METER)
    await api.cancel_meter_event("", "api_request", "id-1", "key-1")
    session = await api.create_session("")
    streamed = [wire_event(event(customer, name), METER) for name in ("streamed-1", "streamed-2")]
    await api.stream_events(session.token, streamed, "key-2")
    meter = (await api.meters(""))[0]
    await api.create_meter("", "new")
    for grouping, start in ((None, NOW // 60 * 60), ("hour", NOW // 3_600 * 3_600), ("day", NOW // 86_400 * 86_400)):
        bounds: Any = (start - 86_400, start + 86_400, grouping)
        async for _ in api.summaries("", meter.id, customer, *bounds):
            pass
    double.clock.advance(10)
    async for reports in api.error_reports("", "2026-01-01T00:00:00Z"):
        for report in reports:
            await api.error_report("", report["id"])
    page = await api.customers("")
    await api.customers("", page.customers[-1].id)
    await api.customers("", "", page.customers[-1].created)
    async for _ in api.changes("", NOW - 60):
        pass
    await api.look("", "/v1/customers?limit=1")
    await api.look("", "/v2/core/events?limit=1")
    await api.customer("", customer)
    await api.customer("", gone)
    await api.search_customers("", "account_id", 'a "quoted" value')
    return {
        "create_meter_event",
        "cancel_meter_event",
        "create_session",
        "stream_events",
        "meters",
        "create_meter",
        "summaries",
        "error_reports",
        "error_report",
        "customers",
        "changes",
        "customer",
        "look",
        "search_customers",
    }


async def test_every_call_and_answer_is_as_published(double: StripeDouble, proxy: RecordingProxy) -> None:
    """Each method of our client is called; no request and no answer breaks a schema."""
    async with connect(config(proxy)) as api:
        called = await every_call(api, double)
    public = {name for name, _ in inspect.getmembers(StripeApi, inspect.isfunction) if not name.startswith("_")}
    assert called == public
    assert len(proxy.exchanges) > len(called)
    assert [text for exchange in proxy.exchanges for text in problems(exchange)] == []


async def test_refusals_are_as_published(double: StripeDouble, proxy: RecordingProxy) -> None:
    """Errors of every kind have the shape of Stripe's, in v1 and in v2."""
    customer = double.add_customer()
    faults = (Fault.ERROR_BEFORE, Fault.UNAVAILABLE, Fault.RATE_LIMITED, Fault.LOCK_TIMEOUT)
    async with connect(config(proxy)) as api, connect(config(proxy, "sk_test_wrong")) as stranger:
        for fault in faults:
            double.fault("/v1/billing/meter_events", fault)
            with pytest.raises(stripe.StripeError):
                await api.create_meter_event(event(customer, f"id-{fault}"), METER)
        await api.create_meter_event(event(customer), METER)
        for wrong in (
            event(customer, idempotency_key="another"),  # a duplicate
            event("cus_none", "none"),
            event(customer, "old", timestamp=NOW - 40 * 86_400),
            event(customer, "text", "many"),
            event(customer, "other", event_name="unknown"),
        ):
            with pytest.raises(stripe.InvalidRequestError):
                await api.create_meter_event(wrong, METER)
        for one in (api, stranger):
            for call in _failing(one):
                with suppress(stripe.StripeError):
                    await call()
    assert {400, 401, 404, 429, 500, 503} <= {exchange.status for exchange in proxy.exchanges}
    assert [text for exchange in proxy.exchanges for text in problems(exchange)] == []


def _failing(api: StripeApi) -> list[Callable[[], Any]]:
    """Calls about things that do not exist."""
    return [
        lambda: api.customer("", "cus_none"),
        lambda: api.error_report("", "evt_none"),
        lambda: api.cancel_meter_event("", "api_request", "none", "key"),
        lambda: anext(api.summaries("", "mtr_none", "cus_none", 0, 60, None)),
        lambda: anext(api.error_reports("", "yesterday")),
    ]


async def test_the_stream_is_as_published(double: StripeDouble, proxy: RecordingProxy) -> None:
    """A session, a batch, and a token that has expired."""
    customer = double.add_customer()
    http = stripe.AIOHTTPClient()
    addresses: Any = {"api": proxy.url, "meter_events": proxy.url}
    client = stripe.StripeClient(double.api_key, base_addresses=addresses, http_client=http)
    made = await client.v2.billing.meter_event_session.create_async()
    one: Any = {"event_name": "api_request", "payload": {"stripe_customer_id": customer, "value": "2"}}
    options: Any = {"api_key": made.authentication_token}
    moment = made.created
    await client.v2.billing.meter_event_stream.create_async({"events": [one | {"timestamp": moment}] * 3}, options)
    double.sessions.expire_all()
    with pytest.raises(stripe.TemporarySessionExpiredError):
        await client.v2.billing.meter_event_stream.create_async({"events": [one]}, options)
    await http.close_async()
    assert [exchange.status for exchange in proxy.exchanges] == [200, 200, 401]
    assert [text for exchange in proxy.exchanges for text in problems(exchange)] == []


async def test_a_running_exporter_says_nothing_else(tmp_path: Path) -> None:
    """From the first span to the meter event: everything that goes over the wire is as published."""
    async with (
        StripeDouble(settings=Settings(limits=RateLimits.off())) as double,
        RecordingProxy(double.url) as proxy,
    ):
        double.add_meter("api_request")
        customer = double.add_customer({"account_id": "acme"})
        endpoints = {"api": proxy.url, "meter_events": proxy.url, "connect": proxy.url}
        async with billing(tmp_path, double, endpoints=endpoints) as made:
            await made.exporter.export(batch(*(record("acme", at=time.time() - 5, quantity=2) for _ in range(3))))
            await double.wait_until(lambda: double.total("api_request", customer) == 6)
        assert {exchange.path for exchange in proxy.exchanges} >= {"/v1/billing/meter_events", "/v1/customers"}
        assert [text for exchange in proxy.exchanges for text in problems(exchange)] == []


@pytest.mark.parametrize(
    ("exchange", "problem"),
    [
        (Exchange("GET", "/v1/charges", "", b"", 200, b"{}"), "not in the published part"),
        (Exchange("GET", "/v1/customers", "limit=ten", b"", 200, b"{}"), "'ten'"),
        (Exchange("GET", "/v1/customers", "colour=red", b"", 200, b"{}"), "colour"),
        (Exchange("GET", "/v1/customers", "", b"", 200, b'{"object": "list"}'), "'data' is a required property"),
        (Exchange("POST", "/v1/billing/meter_events", "", b"event_name=x", 500, b"{}"), "'payload' is a required"),
        (Exchange("POST", "/v1/billing/meter_events", "", b"event_name=x&payload[a]=b&b=c", 500, b"{}"), "'b'"),
        (Exchange("POST", "/v2/billing/meter_event_stream", "", b'{"events": [{}]}', 200, b"{}"), "'event_name'"),
        (Exchange("POST", "/v2/billing/meter_event_stream", "", b'{"events": []}', 200, b'{"a": 1}'), "'a'"),
    ],
)
def test_the_check_can_fail(exchange: Exchange, problem: str) -> None:
    """What is not as published is told, so that the tests above mean something."""
    assert problem in " ".join(problems(exchange))


def test_what_is_kept_is_what_is_said() -> None:
    """The versions in the folder's README are those of the files."""
    folder = Path(__file__).parent / "stripe_openapi"
    text = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("v1", "v2"):
        version = json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))["version"]
        assert f"`{version}`" in text
