"""Something answers where Stripe should: usage is kept, nothing is guessed, and the service goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from billing import billing, record, total

from otel_usageflow.testing.stripe import StripeDouble

ANSWERS = {
    "200 with other JSON": (200, b'{"status": "ok"}', {}),
    "200 with a list": (200, b"[]", {}),
    "200 with null": (200, b"null", {}),
    "200 with a page": (200, b"<html>please log in</html>", {}),
    "200 with nothing": (200, b"", {}),
    "200 that breaks off": (200, b'{"object": "billing.meter_ev', {}),
    "200 that cannot be unpacked": (200, b"\x1f\x8b no gzip at all", {"Content-Encoding": "gzip"}),
    "200 that is no text": (200, b"\xff\xfe\x00", {}),
    "a redirect": (302, b"", {"Location": "https://login.example/"}),
    "a redirect that keeps the method": (308, b"", {"Location": "https://login.example/"}),
    "a proxy's 400": (400, b"<html>bad request</html>", {}),
    "a 400 with no error in it": (400, b'{"error": null}', {}),
    "a proxy's 413": (413, b"", {}),
    "a gateway's 404": (404, b"not here", {}),
}


@dataclass
class Between:
    """A server between us and the double. While `wrong`, it answers some paths by itself."""

    url: str = ""
    wrong: str | None = None
    """Beginning of the paths that it answers; None: it passes everything on."""
    answered: int = 0


@asynccontextmanager
async def between(stripe: StripeDouble, status: int, body: bytes, headers: dict[str, str]) -> AsyncIterator[Between]:
    """Such a server, with one answer to everything."""
    proxy = Between()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if proxy.wrong is not None and request.path.startswith(proxy.wrong):
            proxy.answered += 1
            return web.Response(status=status, body=body, headers=headers)
        passed_on = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with session.request(
            request.method, f"{stripe.url}{request.path_qs}", headers=passed_on, data=await request.read()
        ) as real:
            kept = {name: value for name, value in real.headers.items() if name.lower().startswith(("stripe", "id"))}
            return web.Response(status=real.status, body=await real.read(), headers=kept)

    async with aiohttp.ClientSession() as session:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            await runner.cleanup()


@pytest.mark.parametrize("path", ["/", "/v1/billing/meter_events"])
@pytest.mark.parametrize("answer", ANSWERS)
async def test_usage_is_kept_until_stripe_is_back(tmp_path: Path, answer: str, path: str) -> None:
    """Whatever answers, from the start or to meter events alone: nothing is lost or rejected, it is billed later."""
    async with StripeDouble() as stripe, between(stripe, *ANSWERS[answer]) as proxy:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        proxy.wrong = path
        endpoints = {"api": proxy.url, "meter_events": proxy.url, "connect": proxy.url}
        async with billing(tmp_path, stripe, endpoints=endpoints) as running:
            failing = asyncio.create_task(running.exporter.watch())
            await running.bill(record(quantity=2))
            await stripe.wait_until(lambda: proxy.answered > 0)
            proxy.wrong = None
            await stripe.wait_until(lambda: total(stripe, customer) == 2)
            assert not failing.done()
            failing.cancel()
        assert stripe.violations == []
