"""Connecting an account with OAuth, from the link to the first event, and all that must not happen on the way."""

import asyncio
import json
import urllib.parse
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from billing import record
from connecting import CALLBACK, HOST, IN_ACCOUNT, KEY, Connecting, command, connecting, files, written
from recording_components import until
from structlog.testing import capture_logs

from otel_usageflow.ledger.connections import ConnectionState
from otel_usageflow.testing.stripe import Fault, StripeDouble


@pytest.fixture
async def stripe() -> AsyncIterator[StripeDouble]:
    """A Stripe whose platform may act for accounts that are connected only."""
    async with StripeDouble() as double:
        double.settings.account_access = "connected"
        double.add_meter("api_request", account="acct_1")
        yield double


def exchanges(stripe: StripeDouble) -> int:
    """How often a code was exchanged."""
    return sum(call.path.endswith("/oauth/token") for call in stripe.calls)


async def test_an_account_is_connected_and_billed(tmp_path: Path, stripe: StripeDouble) -> None:
    """The link leads to Stripe, the way back connects the account, and its usage is billed there."""
    customer = stripe.add_customer({"account_id": "acme"}, account="acct_1")
    async with connecting(written(tmp_path, stripe)) as service:
        await service.bill(record(terms=IN_ACCOUNT))
        url = await service.url("--email", "owner@example.com")
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        assert asked["response_type"] == "code"
        assert (asked["scope"], asked["redirect_uri"]) == ("read_write", CALLBACK)
        assert asked["stripe_user[email]"] == "owner@example.com"
        page = await service.visit(stripe.approve(url, "acct_1"))
        assert page.status == 200
        assert "acct_1 is connected (test mode)" in page.text
        await stripe.wait_until(lambda: len(stripe.accepted) == 1, timeout=20)
        assert stripe.accepted[0].customer == customer
        one = service.connections()["acct_1"]
        assert (one.state, one.kind, one.scope, one.sealed) == (ConnectionState.CONNECTED, "oauth", "read_write", b"")
    assert stripe.connected() == ["acct_1"]


async def test_the_page_keeps_to_itself(tmp_path: Path, stripe: StripeDouble) -> None:
    """It loads nothing, is not kept or framed, tells its address to nobody, and shows no code and no state."""
    async with connecting(written(tmp_path, stripe)) as service:
        back = stripe.approve(await service.url(), "acct_1")
        page = await service.visit(back)
        for secret in dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(back).query)).values():
            assert secret == "read_write" or secret not in page.text
    assert "http" not in page.text.replace("http-equiv", "")
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")


async def test_a_code_is_exchanged_once(tmp_path: Path, stripe: StripeDouble) -> None:
    """Visits at the same time, reloads and a replay after a restart show the result, and exchange nothing again."""
    config = written(tmp_path, stripe)
    async with connecting(config) as service:
        back = stripe.approve(await service.url(), "acct_1")
        stripe.fault("/oauth/token", Fault.SLOW_AFTER, seconds=0.3)
        pages = await asyncio.gather(*(service.visit(back) for _ in range(8)))
        assert {page.status for page in pages} == {200}
        assert (await service.visit(back)).status == 200
    async with connecting(config) as service:
        again = await service.visit(back)
        assert (again.status, "acct_1 is connected" in again.text) == (200, True)
    assert exchanges(stripe) == 1
    assert stripe.connected() == ["acct_1"]


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
async def test_only_a_visit_exchanges(tmp_path: Path, stripe: StripeDouble, method: str) -> None:
    """What looks at the address without visiting it, as mail scanners do with HEAD, uses nothing up."""
    async with connecting(written(tmp_path, stripe)) as service:
        back = stripe.approve(await service.url(), "acct_1")
        assert (await service.visit(back, method=method)).status == 405
        assert exchanges(stripe) == 0
        assert (await service.visit(back)).status == 200


async def test_a_forged_state_exchanges_nothing(tmp_path: Path, stripe: StripeDouble) -> None:
    """A state that was changed, made up, left out or given twice is refused, and the link stays good."""
    async with connecting(written(tmp_path, stripe)) as service:
        back = stripe.approve(await service.url(), "acct_1")
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(back).query))
        state = query["state"]
        wrong = ["", "x", state[:-1], state[:-1] + ("A" if state[-1] != "A" else "B"), state.replace("v1", "v2", 1)]
        with capture_logs() as logs:
            for one in wrong:
                page = await service.visit(f"{CALLBACK}?{urllib.parse.urlencode({**query, 'state': one})}")
                assert (page.status, "not one of our links" in page.text) == (400, True)
            twice = await service.visit(f"{back}&code=ac_other")
            assert twice.status == 400
            assert (await service.visit(f"{CALLBACK}?state={state}")).status == 400
        assert [one["event"] for one in logs].count("connect_state_refused") == 1  # and the others a moment later
        assert state not in str(logs)
        assert exchanges(stripe) == 0
        assert (await service.visit(back)).status == 200


async def test_a_state_of_others_exchanges_nothing(tmp_path: Path, stripe: StripeDouble) -> None:
    """A state of another exporter, of the other mode, or signed with a key of somebody else is refused."""
    from otel_usageflow.exporters.stripe_meter.connect_keys import KeyRing
    from otel_usageflow.exporters.stripe_meter.connect_state import State, new_nonce
    from otel_usageflow.exporters.stripe_meter.connect_state import written as signed

    async with connecting(written(tmp_path, stripe)) as service:
        keys = KeyRing.of_text(KEY)
        for book in ("stripe_meter live", "stripe_meter/other test"):
            state = signed(State(new_nonce(), 2**40, book), keys)
            page = await service.visit(f"{CALLBACK}?code=ac_1&state={state}")
            assert (page.status, "belongs to another service" in page.text) == (400, True)
        unknown = signed(State(new_nonce(), 2**40, "stripe_meter test"), keys)
        assert (await service.visit(f"{CALLBACK}?code=ac_1&state={unknown}")).status == 400
    assert exchanges(stripe) == 0


async def test_a_link_expires(tmp_path: Path, stripe: StripeDouble) -> None:
    """After its time a link is refused, and nothing is exchanged."""
    config = written(tmp_path, stripe)

    class Later:
        """A clock that is an hour ahead."""

        def __call__(self) -> float:
            import time

            return time.time() + 3601

    async with connecting(config) as service:
        back = stripe.approve(await service.url(), "acct_1")
    async with connecting(config, clock=Later()) as service:  # type: ignore[arg-type]
        page = await service.visit(back)
        assert (page.status, "has expired" in page.text) == (410, True)
        assert service.connections() == {}
    assert exchanges(stripe) == 0


async def test_an_owner_who_declines(tmp_path: Path, stripe: StripeDouble) -> None:
    """It is said, in the page and in the log, the link is used up, and what Stripe says is only text."""
    async with connecting(written(tmp_path, stripe)) as service:
        denied = stripe.deny(await service.url())
        with capture_logs() as logs:
            page = await service.visit(denied.replace("denied+your", "%3Cb%3Edenied%3C%2Fb%3E+your"))
        assert (page.status, "&lt;b&gt;denied" in page.text) == (403, True)
        assert [one["error"] for one in logs if one["event"] == "connect_denied"] == ["access_denied"]
        state = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(denied).query))["state"]
        again = await service.visit(f"{CALLBACK}?code=ac_1&state={state}")
        assert again.status == 403
    assert exchanges(stripe) == 0


async def test_the_other_mode_is_not_stored(tmp_path: Path, stripe: StripeDouble) -> None:
    """A client id of the other mode connects nothing: Stripe refuses the code, and nothing of it is kept."""
    async with connecting(written(tmp_path, stripe, client_id=stripe.client_id(livemode=True))) as service:
        page = await service.visit(stripe.approve(await service.url(), "acct_1"))
        assert (page.status, "invalid_grant" in page.text) == (400, True)
        assert service.connections() == service.connections("live") == {}


async def test_less_than_is_needed_is_not_stored(tmp_path: Path, stripe: StripeDouble) -> None:
    """A connection that may only read is refused: usage could not be written."""
    async with connecting(written(tmp_path, stripe)) as service:
        url = (await service.url()).replace("scope=read_write", "scope=read_only")
        page = await service.visit(stripe.approve(url, "acct_1"))
        assert (page.status, "the scope read_only, and read_write is needed" in page.text) == (400, True)
        assert service.connections() == {}


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.HANG_AFTER, Fault.MALFORMED, Fault.UNAVAILABLE])
async def test_an_exchange_without_an_answer_is_not_repeated(
    tmp_path: Path, stripe: StripeDouble, fault: Fault
) -> None:
    """Nobody knows whether it worked; the page and the log say so, reloads too, and a new link mends it."""
    async with connecting(written(tmp_path, stripe)) as service:
        back = stripe.approve(await service.url(), "acct_1")
        stripe.fault("/oauth/token", fault)
        with capture_logs() as logs:
            page = await service.visit(back)
        assert (page.status, "It is not known" in page.text) == (502, True)
        assert "connect url" in str([one for one in logs if one["event"] == "connect_outcome_unknown"])
        assert (await service.visit(back)).status == 502
        assert exchanges(stripe) == (0 if fault is Fault.HANG_AFTER else 1)  # which is not told of before its end
        assert (await service.visit(stripe.approve(await service.url(), "acct_1"))).status == 200
    assert stripe.connected() == ["acct_1"]


async def test_a_code_that_stripe_refuses(tmp_path: Path, stripe: StripeDouble) -> None:
    """A definite no is told with its code, and the link is used up."""
    async with connecting(written(tmp_path, stripe)) as service:
        state = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(await service.url()).query))["state"]
        with capture_logs() as logs:
            page = await service.visit(f"{CALLBACK}?code=ac_none&state={state}")
        assert (page.status, "invalid_grant" in page.text) == (400, True)
        (refused,) = [one for one in logs if one["event"] == "connect_refused"]
        assert refused["why"] == "400 invalid_grant: Authorization code does not exist: [REDACTED]"
        assert "ac_none" not in page.text + str(logs)
        assert "used before" in (await service.visit(f"{CALLBACK}?code=ac_none&state={state}")).text
    assert exchanges(stripe) == 1


async def test_nothing_secret_is_written(tmp_path: Path, stripe: StripeDouble) -> None:
    """States, codes, tokens and keys are in no file of the ledger, in no log line and in no audit entry."""
    config = written(tmp_path, stripe)
    with capture_logs() as logs:
        async with connecting(config) as service:
            back = stripe.approve(await service.url(), "acct_1")
            await service.visit(back)
            secrets = [value for name, value in _query(back).items() if name != "scope"]
            secrets += [*stripe.oauth._by_access, *stripe.oauth._by_refresh, KEY, stripe.api_key]
            for name, content in files(config):
                for secret in secrets:
                    assert secret.encode() not in content, name
    assert len(secrets) > 5
    assert not [secret for secret in secrets if secret in str(logs)]


async def test_an_owner_who_ends_the_connection(tmp_path: Path, stripe: StripeDouble) -> None:
    """Stripe's event marks the account: its usage is kept and nothing is sent, until it is connected again."""
    stripe.add_customer({"account_id": "acme"}, account="acct_1")
    async with connecting(written(tmp_path, stripe)) as service:
        await service.visit(stripe.approve(await service.url(), "acct_1"))
        assert service.exporter.connecting is not None
        assert not await service.exporter.connecting.deauthorized("acct_1", 1.0)  # of an earlier connection
        stripe.disconnect_account("acct_1")
        with capture_logs() as logs:
            assert await service.exporter.connecting.deauthorized("acct_1", 2**40)
        assert "connected_account_gone" in [one["event"] for one in logs]
        assert service.connections()["acct_1"].state is ConnectionState.DEAUTHORIZED
        before = len(stripe.calls)
        await service.bill(record(terms=IN_ACCOUNT))
        listed = await _listed(service)
        assert listed["state"] == "deauthorized"
        assert not [call for call in list(stripe.calls)[before:] if call.method == "POST"]
        assert (await service.visit(stripe.approve(await service.url(), "acct_1"))).status == 200
        await stripe.wait_until(lambda: len(stripe.accepted) == 1, timeout=20)


async def test_a_refusal_alone_ends_no_connection(tmp_path: Path) -> None:
    """Where events are not told, a refusal halts the account until the access is back; OAuth has its own key."""
    may = {"billing_meter_read", "customer_read", "billing_meter_event_write"}
    async with StripeDouble(["rk_test_1", "sk_test_1"], permissions={"rk_test_1": may}) as stripe:
        stripe.settings.account_access = "connected"
        stripe.add_meter("api_request", account="acct_1")
        stripe.add_customer({"account_id": "acme"}, account="acct_1")
        async with connecting(written(tmp_path, stripe, client_secret="sk_test_1")) as service:
            await service.visit(stripe.approve(await service.url(), "acct_1"))
            await service.bill(record(terms=IN_ACCOUNT))
            await stripe.wait_until(lambda: len(stripe.accepted) == 1, timeout=20)
            with capture_logs() as logs:
                stripe.disconnect_account("acct_1")
                await service.bill(record(terms=IN_ACCOUNT))
                await until(lambda: "connected_account_refused" in [one["event"] for one in logs], 20)
            (told,) = [one for one in logs if one["event"] == "connected_account_refused"]
            assert told["account"] == "acct_1"
            assert "connect url" in told["remedy"]
            assert service.connections()["acct_1"].usable
            stripe.connect_account("acct_1")
            await stripe.wait_until(lambda: len(stripe.accepted) == 2, timeout=20)


async def test_an_end_that_came_while_nobody_listened(tmp_path: Path, stripe: StripeDouble) -> None:
    """The event `account.application.deauthorized` is read at the start, and marks what it is about."""
    config = written(tmp_path, stripe)
    async with connecting(config) as service:
        await service.visit(stripe.approve(await service.url(), "acct_1"))
    stripe.disconnect_account("acct_1")
    async with connecting(config) as service:
        await until(lambda: not service.connections()["acct_1"].usable, 20)
        assert service.connections()["acct_1"].state is ConnectionState.DEAUTHORIZED
        assert service.connections()["acct_1"].revoked


async def test_an_account_that_is_gone_holds_up_no_other(tmp_path: Path, stripe: StripeDouble) -> None:
    """Usage of a removed account is kept and waits, and that of the others is billed."""
    stripe.add_meter("api_request", account="acct_2")
    for account in ("acct_1", "acct_2"):
        stripe.add_customer({"account_id": "acme"}, account=account)
    other = replace(IN_ACCOUNT, account="acct_2")
    config = written(tmp_path, stripe)
    async with connecting(config, (IN_ACCOUNT, other)) as service:
        for account in ("acct_1", "acct_2"):
            await service.visit(stripe.approve(await service.url(), account))
        await service.bill(record(terms=IN_ACCOUNT), record(terms=other))
        await stripe.wait_until(lambda: len(stripe.accepted) == 2, timeout=20)
        await command("connect", "remove", "--config", str(config), "acct_1", "--yes")
        part = service.exporter.connecting
        assert part is not None
        await until(lambda: part.obstacle("acct_1") is not None, 20)
        await service.bill(record(terms=IN_ACCOUNT), record(terms=other))
        await stripe.wait_until(lambda: len(stripe.accepted) == 3, timeout=20)
        assert stripe.accepted[-1].account == "acct_2"
        await service.visit(stripe.approve(await service.url(), "acct_1"))
        await stripe.wait_until(lambda: len(stripe.accepted) == 4, timeout=20)
        assert stripe.accepted[-1].account == "acct_1"


async def test_removing_an_account(tmp_path: Path, stripe: StripeDouble) -> None:
    """`connect remove` beside the service ends it here and at Stripe; others go on."""
    async with connecting(written(tmp_path, stripe)) as service:
        for account in ("acct_1", "acct_2"):
            await service.visit(stripe.approve(await service.url(), account))
        said = await command("connect", "remove", "--config", str(service.config), "acct_1", "--yes")
        assert said.status == 0, said.err
        assert "Stripe has ended the connection" in said.out
        assert stripe.connected() == ["acct_2"]
        states = {account: one.state for account, one in service.connections().items()}
        assert states == {"acct_1": ConnectionState.REMOVED, "acct_2": ConnectionState.CONNECTED}
        again = await command("connect", "remove", "--config", str(service.config), "acct_1", "--yes")
        assert (again.status, "over already" in again.out) == (0, True)
        other = await command("connect", "remove", "--config", str(service.config), "acct_9", "--yes")
        assert (other.status, "was not connected" in other.err) == (1, True)
        connecting_part = service.exporter.connecting
        assert connecting_part is not None
        await until(lambda: connecting_part.obstacle("acct_1") is not None, 20)
        assert connecting_part.obstacle("acct_2") is None


async def test_removing_while_stripe_is_silent(tmp_path: Path, stripe: StripeDouble) -> None:
    """It is removed here, what remains at Stripe is said, and the command can be given again."""
    async with connecting(written(tmp_path, stripe)) as service:
        await service.visit(stripe.approve(await service.url(), "acct_1"))
        stripe.fault("/oauth/deauthorize", Fault.RESET_BEFORE)
        arguments = ("connect", "remove", "--config", str(service.config), "acct_1", "--yes")
        said = await command(*arguments)
        assert (said.status, "Stripe could not be told" in said.err) == (2, True)
        assert stripe.connected() == ["acct_1"]
        assert service.connections()["acct_1"].state is ConnectionState.REMOVED
        assert (await command(*arguments)).status == 0
        assert stripe.connected() == []


async def test_every_change_is_in_the_audit_log(tmp_path: Path, stripe: StripeDouble) -> None:
    """Links made and used, accounts connected and removed: each is an entry, and the chain holds."""
    async with connecting(written(tmp_path, stripe)) as service:
        await service.visit(stripe.approve(await service.url(), "acct_1"))
        await command("connect", "remove", "--config", str(service.config), "acct_1", "--yes")
    said = await command("ledger", "audit", "--config", str(service.config), "--format", "json")
    actions = [one["action"] for one in json.loads(said.out)["audit"]]
    for action in (
        "connect link made",
        "connect link used",
        "account connected",
        "account removed",
        "account revoked",
    ):
        assert action in actions
    verified = await command("ledger", "verify", "--config", str(service.config))
    assert verified.status == 0, verified


async def test_any_host_reaches_the_callback_and_nothing_else(tmp_path: Path, stripe: StripeDouble) -> None:
    """A proxy may pass on any Host header; only the callback answers to it."""
    async with connecting(written(tmp_path, stripe)) as service:
        for host in (HOST, "127.0.0.1", "evil.example"):
            assert (await service.visit(f"{CALLBACK}?state=x&code=y", host)).status == 400


def _query(address: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query))


async def _listed(service: Connecting) -> dict[str, object]:
    said = await command("connect", "list", "--config", str(service.config), "--format", "json")
    (one,) = json.loads(said.out)["connections"]
    return dict(one)
