"""What attackers and bad luck make of connecting an account: codes of others, answers that break off, races."""

import time
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from connecting import connecting, written
from recording_components import until
from structlog.testing import capture_logs

from otel_usageflow.testing.stripe import Fault, StripeDouble

TOKEN = "/v1/oauth/token"
BROKEN_OFF = '{"access_token":"rk_test_51SecretAccess","refresh_token":"rt_SecretRefresh","stripe_user_id":"acct'


@pytest.fixture
async def stripe() -> AsyncIterator[StripeDouble]:
    """A Stripe whose platform may act for accounts that are connected only."""
    async with StripeDouble() as double:
        double.settings.account_access = "connected"
        double.add_meter("api_request", account="acct_1")
        yield double


@asynccontextmanager
async def answering(status: int, text: str) -> AsyncIterator[str]:
    """Something that gives one answer to everything; its address."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type="application/json")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def change(config: Path, **values: object) -> None:
    """Set keys of the exporter."""
    tree = yaml.safe_load(config.read_text())
    tree["exporters"]["stripe_meter"].update(values)
    config.write_text(yaml.safe_dump(tree))


async def test_a_code_of_another_link_is_not_exchanged(tmp_path: Path, stripe: StripeDouble) -> None:
    """Who has seen another's code cannot end that connection with a link of their own, which stays good."""
    async with connecting(written(tmp_path, stripe)) as service:
        others = stripe.approve(await service.url(), "acct_1")
        assert (await service.visit(others)).status == 200
        own = stripe.approve(await service.url(), "acct_2")
    async with connecting(written(tmp_path, stripe)) as service:
        code = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(others).query))["code"]
        mine = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(own).query))
        page = await service.visit("?" + urllib.parse.urlencode({**mine, "code": code}))
        assert page.status == 400
        assert "used before" in page.text
        assert stripe.connected() == ["acct_1"]
        assert (await service.visit(own)).status == 200
    assert sorted(stripe.connected()) == ["acct_1", "acct_2"]


@pytest.mark.parametrize("kind", ["oauth", "app"])
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_an_answer_that_breaks_off_is_not_quoted(
    tmp_path: Path, stripe: StripeDouble, kind: str, status: int
) -> None:
    """What cannot be read may hold the tokens that were asked for: neither the log nor the page shows them."""
    config = written(tmp_path, stripe, kind=kind)
    with capture_logs() as logs:
        async with connecting(config) as service:
            back = stripe.approve(await service.url(), "acct_1")
        async with answering(status, BROKEN_OFF) as url:
            change(config, endpoints={"api": url, "meter_events": url, "connect": url})
            async with connecting(config) as service:
                page = await service.visit(back)
    assert page.status == 502
    told = [line for line in logs if line["event"].startswith("connect_")]
    assert [line["event"] for line in told] == ["connect_outcome_unknown"]
    assert "Secret" not in page.text + str(told)


async def test_a_connection_of_meanwhile_is_not_lost(tmp_path: Path, stripe: StripeDouble) -> None:
    """An owner installs the app again while Stripe refuses the old tokens: the new ones stay."""
    config = written(tmp_path, stripe, kind="app")
    change(config, timeout="20s")
    async with connecting(config) as service:
        assert (await service.visit(stripe.approve(await service.url(), "acct_1"))).status == 200
        before = service.connections()["acct_1"]
        back = stripe.approve(await service.url(), "acct_1")
    for token in stripe.oauth._by_refresh.values():
        token.replaced = True
    await until(lambda: time.time() >= before.connected_at + 1, 5)  # Stripe tells the second of a connection
    refusal = stripe.fault(TOKEN, Fault.SLOW_BEFORE, seconds=3)
    with capture_logs() as logs:
        async with connecting(config, clock=Ahead()) as service:  # type: ignore[arg-type]
            await until(lambda: refusal.fired == 1, 20)
            assert (await service.visit(back)).status == 200
            new = service.connections()["acct_1"]
            await until(lambda: sum(call.path == TOKEN for call in stripe.calls) >= 3, 20)
        assert new.sealed != before.sealed
        # Leaving waits for the exchange, so that the refusal has been dealt with.
        async with connecting(config) as service:
            assert service.connections()["acct_1"].usable
    assert not [line for line in logs if line["event"] == "connected_account_lost"]


class Ahead:
    """A clock by which the first tokens are to be renewed."""

    def __call__(self) -> float:
        """Unix seconds."""
        return time.time() + 3000
