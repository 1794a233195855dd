"""What goes wrong between a client and Stripe: TLS, proxies, half-open connections, clocks."""

import email.utils
import ssl
from typing import Any

import aiohttp
import pytest
import stripe
from stripe_sdk import sdk, send

from otel_usageflow.testing.stripe import Fault, ManualClock, StripeDouble

EVENTS = "/v1/billing/meter_events"


async def get(double: StripeDouble, **options: Any) -> aiohttp.ClientResponse:
    """One GET with the double's key."""
    headers = {"Authorization": f"Bearer {double.api_key}"}
    url = f"{double.url}/v1/customers"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, **options) as answer:
        await answer.read()
        return answer


async def test_tls_with_a_certificate_that_is_good() -> None:
    """Who trusts the double's authority is answered; who does not is not."""
    async with StripeDouble(certificate="trusted") as double:
        assert double.url.startswith("https://")
        assert double.authority is not None
        trusting = ssl.create_default_context(cafile=str(double.authority))
        assert (await get(double, ssl=trusting)).status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await get(double)
        folder = double.authority.parent
    assert not folder.exists()


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [("self_signed", "self-signed"), ("expired", "expired"), ("wrong_host", "mismatch")],
)
async def test_tls_with_a_certificate_that_is_not(certificate: Any, reason: str) -> None:
    """Not even who trusts the authority gets an answer, and the double hears of no call."""
    async with StripeDouble(certificate=certificate) as double:
        trusting = ssl.create_default_context(cafile=str(double.authority))
        with pytest.raises(aiohttp.ClientConnectorCertificateError, match=f"(?i){reason}"):
            await get(double, ssl=trusting)
        assert list(double.calls) == []


async def test_nobody_is_there_for_a_while() -> None:
    """Connections are refused, those that were open are broken, and afterwards all is as before."""
    async with StripeDouble() as double, sdk(double) as client:
        double.add_customer()
        await client.v1.customers.list_async()
        async with double.down():
            with pytest.raises(stripe.APIConnectionError):
                await client.v1.customers.list_async()
        assert len((await client.v1.customers.list_async()).data) == 1
        assert [call.status for call in double.calls] == [200, 200]


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_AFTER])
async def test_a_connection_is_half_open(fault: Fault) -> None:
    """Nothing comes; the client gives up, and what was committed counts once."""
    async with StripeDouble() as double:
        double.add_meter("api_request")
        customer = double.add_customer()
        double.fault(EVENTS, fault)
        async with sdk(double, patience=0.3) as client:
            with pytest.raises((stripe.APIConnectionError, TimeoutError)):
                await send(client, customer, timestamp=int(double.clock.now()))
        await double.wait_until(lambda: len(double.accepted) == (0 if fault is Fault.HANG else 1))
        async with sdk(double) as client:
            timestamp = double.accepted[0].timestamp if double.accepted else None
            await send(client, customer, timestamp=timestamp)
        assert double.total("api_request", customer) == 1


async def test_what_stalls_has_sent_its_headers() -> None:
    """Status, length and half of the body arrive, and no more until the double stops."""
    async with aiohttp.ClientSession() as session:
        async with StripeDouble() as double:
            double.fault("/v1/customers", Fault.STALL)
            headers = {"Authorization": f"Bearer {double.api_key}"}
            answer = await session.get(f"{double.url}/v1/customers", headers=headers)
            assert (answer.status, answer.content_type) == (200, "application/json")
            half = await answer.content.readany()
            assert len(half) == int(answer.headers["Content-Length"]) // 2
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


@pytest.mark.parametrize(
    ("fault", "status", "kind", "location"),
    [
        (Fault.NOT_JSON, 200, "text/html", None),
        (Fault.BAD_GATEWAY, 502, "text/html", None),
        (Fault.REDIRECT, 302, "text/html", "https://login.proxy.test/?back=stripe"),
        (Fault.WRONG_TYPE, 200, "text/plain", None),
        (Fault.EMPTY, 200, "application/json", None),
    ],
)
async def test_something_else_answers(fault: Fault, status: int, kind: str, location: str | None) -> None:
    """As it was asked for, once; then Stripe answers again."""
    async with StripeDouble() as double:
        double.fault("/v1/customers", fault)
        answer = await get(double, allow_redirects=False)
        assert (answer.status, answer.content_type, answer.headers.get("Location")) == (status, kind, location)
        answer = await get(double)
        assert (answer.status, answer.content_type) == (200, "application/json")


async def test_the_header_date_may_be_wrong() -> None:
    """`date_skew` shifts the header, forwards or back, and nothing else."""
    async with StripeDouble(clock=ManualClock(1_790_000_000)) as double:
        for skew in (0, 300, -300):
            double.settings.change({"date_skew": skew})
            answer = await get(double)
            moment = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
            assert moment == 1_790_000_000 + skew
        assert double.clock.now() == 1_790_000_000
