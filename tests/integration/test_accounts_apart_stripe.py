"""Accounts that come while the service runs, and what an account that is not connected has to do with the others."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from billing import CHAT, Billing, batch, billing, record
from companies import ACME, BETA, BOOK, OWN, of_company
from looking_back import clock_of
from structlog.testing import capture_logs

from otel_usageflow.errors import PermissionDenied
from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM
from otel_usageflow.extensions.sqlite_storage.connect.token_desk import TokenDesk
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.ingest_tokens import IngestToken
from otel_usageflow.model.caller import Caller
from otel_usageflow.testing.stripe import StripeDouble


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


def set_up(stripe: StripeDouble, *accounts: str) -> dict[str, str]:
    """The meter and a customer acme in each of these accounts; account -> customer."""
    customers = {}
    for account in accounts:
        if account:
            stripe.connect_account(account)
        stripe.add_meter("api_request", account=account or None)
        customers[account] = stripe.add_customer({"account_id": "acme"}, account=account or None)
    return customers


def counted(stripe: StripeDouble, customers: dict[str, str]) -> dict[str, int]:
    """What each account has counted."""
    return {name: int(stripe.total("api_request", one, account=name or None)) for name, one in customers.items()}


async def send(running: Billing, account: str, number: int, user: str = "acme") -> None:
    """Usage with a token of this account, or without one."""
    await running.exporter.export(of_company(batch(*(record(user) for _ in range(number))), account))


async def test_accounts_come_while_it_runs(tmp_path: Path) -> None:
    """The first usage with a token is acknowledged before anything is known of its account, and billed there."""
    async with StripeDouble() as stripe:
        customers = set_up(stripe, OWN, ACME, BETA)
        async with billing(tmp_path, stripe) as running:
            for account, number in ((ACME, 2), (BETA, 3), (OWN, 4), (ACME, 5)):
                await send(running, account, number)
            await until(lambda: counted(stripe, customers) == {OWN: 4, ACME: 7, BETA: 3})


async def test_a_restart_picks_them_up_again(tmp_path: Path) -> None:
    """Usage that came with a token while Stripe was away is billed by the next life of the service, unasked."""
    async with StripeDouble() as stripe:
        customers = set_up(stripe, OWN, ACME)
        async with stripe.down(), billing(tmp_path, stripe) as running:
            await send(running, ACME, 3)
        async with billing(tmp_path, stripe):
            await until(lambda: counted(stripe, customers) == {OWN: 0, ACME: 3})


async def test_an_account_that_is_not_connected_keeps_its_usage(tmp_path: Path) -> None:
    """It is taken and shown, nothing of it is sent, the others go on; it is billed when the account is connected."""
    async with StripeDouble() as stripe:
        customers = set_up(stripe, OWN, ACME)
        with capture_logs() as logs:
            async with billing(tmp_path, stripe) as running:
                await send(running, BETA, 3)
                await send(running, ACME, 2)
                await send(running, OWN, 1)
                await until(lambda: counted(stripe, customers) == {OWN: 1, ACME: 2})
                with open_reader(tmp_path) as reader:
                    lines = {(line.account, line.standing): line.requests for line in reader.usage(None, None)}
                assert lines[BETA, "collecting"] == 3
                assert any(line.get("account") == BETA and line["log_level"] != "info" for line in logs)
                customers |= set_up(stripe, BETA)
                await until(lambda: counted(stripe, customers)[BETA] == 3, 60)


async def test_a_connection_that_ends_stops_that_account_alone(tmp_path: Path) -> None:
    """Usage that comes afterwards is kept; the other companies are billed on."""
    async with StripeDouble() as stripe:
        customers = set_up(stripe, OWN, ACME, BETA)
        async with billing(tmp_path, stripe) as running:
            for account in (ACME, BETA):
                await send(running, account, 1)
            await until(lambda: counted(stripe, customers) == {OWN: 0, ACME: 1, BETA: 1})
            stripe.disconnect_account(BETA)
            for account in (ACME, BETA):
                await send(running, account, 10)
            await until(lambda: counted(stripe, customers)[ACME] == 11)
            stripe.connect_account(BETA)
            await until(lambda: counted(stripe, customers) == {OWN: 0, ACME: 11, BETA: 11}, 60)


@pytest.mark.parametrize(
    ("caller", "why"),
    [
        (Caller(ACME, "stripe_meter live", "it_1"), "it_1 was made for stripe_meter live"),
        (Caller(ACME, "stripe_meter/other test", "it_1"), "this is stripe_meter test"),
    ],
)
async def test_a_token_of_another_book_is_refused(tmp_path: Path, caller: Caller, why: str) -> None:
    """Of the other mode, or of another exporter: nothing of it is taken, and the answer says what to do."""
    async with StripeDouble() as stripe:
        set_up(stripe, OWN, ACME)
        async with billing(tmp_path, stripe) as running:
            usage = replace(of_company(batch(record()), ACME), caller=caller)
            with pytest.raises(PermissionDenied, match=why):
                await running.exporter.export(usage)
            with open_reader(tmp_path) as reader:
                assert reader.usage(None, None) == []


async def test_an_exporter_of_one_account_takes_no_tokens_of_others(tmp_path: Path) -> None:
    """Its own account's and those of `own` are billed there; another one's are refused with the reason."""
    async with StripeDouble() as stripe:
        customers = set_up(stripe, ACME)
        async with billing(tmp_path, stripe, account=ACME) as running:
            with pytest.raises(PermissionDenied, match=f"bills in {ACME} only"):
                await send(running, BETA, 1)
            await send(running, ACME, 2)
            await running.exporter.export(replace(batch(record()), caller=Caller(OWN, BOOK, "it_own")))
            await until(lambda: counted(stripe, customers) == {ACME: 3})


async def test_what_is_known_of_customers_is_known_of_one_account(tmp_path: Path) -> None:
    """Each account has its own acme, and one of them has none: its usage waits, and is nobody else's."""
    async with StripeDouble() as stripe:
        customers = set_up(stripe, OWN, ACME)
        stripe.connect_account(BETA)
        stripe.add_meter("api_request", account=BETA)
        async with billing(tmp_path, stripe) as running:
            for account in (BETA, ACME, OWN):
                await send(running, account, 2)
            await until(lambda: counted(stripe, customers) == {OWN: 2, ACME: 2})
            await until(lambda: held(tmp_path) == {(BETA, "no_customer"): 2})
            late = stripe.add_customer({"account_id": "acme"}, account=BETA)
            await until(lambda: int(stripe.total("api_request", late, account=BETA)) == 2, 90)
            assert counted(stripe, customers) == {OWN: 2, ACME: 2}


def held(directory: Path) -> dict[tuple[str, str | None], int]:
    """(account, reason) -> requests that wait for something in Stripe."""
    with open_reader(directory) as reader:
        return {(line.account, line.reason): line.requests for line in reader.usage(None, None) if line.reason}


async def test_a_meter_that_is_missing_is_missing_in_one_account(tmp_path: Path) -> None:
    """The others have it, and are billed."""
    async with StripeDouble() as stripe:
        customers = set_up(stripe, OWN, ACME)
        stripe.connect_account(BETA)
        stripe.add_customer({"account_id": "acme"}, account=BETA)
        async with billing(tmp_path, stripe) as running:
            for account in (BETA, ACME, OWN):
                await send(running, account, 2)
            await until(lambda: counted(stripe, customers) == {OWN: 2, ACME: 2})
            await until(lambda: held(tmp_path) == {(BETA, "no_meter"): 2})


async def test_test_and_live_mode_are_apart(tmp_path: Path) -> None:
    """One ledger under a test key, then under a live key: each mode bills, knows and holds its own only."""
    async with StripeDouble() as test_stripe, StripeDouble(api_key="sk_live_abcdefghijklmnopqrstuvwx") as live_stripe:
        test, live = set_up(test_stripe, OWN, ACME), set_up(live_stripe, OWN)
        same = of_company(batch(record()), ACME)
        async with billing(tmp_path, test_stripe) as running:
            await running.exporter.export(same)
            await send(running, OWN, 2)
            await until(lambda: counted(test_stripe, test) == {OWN: 2, ACME: 1})
        live |= set_up(live_stripe, ACME)
        async with billing(tmp_path, live_stripe) as running:
            with pytest.raises(PermissionDenied, match="stripe_meter live"):
                await running.exporter.export(same)
            caller = Caller(ACME, "stripe_meter live", "it_live")
            await running.exporter.export(replace(same, caller=caller))
            await until(lambda: counted(live_stripe, live) == {OWN: 0, ACME: 1})
        assert counted(test_stripe, test) == {OWN: 2, ACME: 1}


async def test_policies_may_change_while_companies_send(tmp_path: Path) -> None:
    """A reload reaches the accounts of tokens: the new event name is billed in them, too."""
    renamed = replace(CHAT, event_name="chat_request")
    async with StripeDouble() as stripe:
        customers = set_up(stripe, OWN, ACME)
        for account in (OWN, ACME):
            stripe.add_meter("chat_request", account=account or None)
        async with billing(tmp_path, stripe) as running:
            await send(running, ACME, 1)
            await until(lambda: counted(stripe, customers) == {OWN: 0, ACME: 1})
            (await running.exporter.expect((renamed,))).apply()
            await running.exporter.export(of_company(batch(record(terms=renamed)), ACME))
            await until(lambda: int(stripe.total("chat_request", customers[ACME], account=ACME)) == 1)

            with open_reader(tmp_path) as reader:
                billed = {(line.account, line.event_name): line.requests for line in reader.usage(None, None)}
            assert billed == {(ACME, "api_request"): 1, (ACME, "chat_request"): 1}


def test_a_token_needs_no_ledger_before(tmp_path: Path) -> None:
    """The first one may be made before the service has ever run."""
    desk = TokenDesk(tmp_path / "new")
    assert desk.listed() == []
    desk.create(IngestToken("it_1", "", BOOK, ACME, 1.0), bytes(32), "tests")
    assert [one.id for one in desk.listed()] == ["it_1"]


async def test_an_account_that_is_gone_keeps_nobody_from_being_compared(tmp_path: Path) -> None:
    """What was billed for the others is compared with Stripe all the same, and the log names the one that was not."""
    async with StripeDouble() as stripe:
        customers = set_up(stripe, OWN, ACME, BETA)
        clock, desk = clock_of(stripe), TokenDesk(tmp_path)
        for account in (ACME, BETA):
            desk.create(IngestToken(f"it_{account}", "", BOOK, account, 1.0), account.encode(), "tests")
        async with billing(tmp_path, stripe, clock=clock) as running:
            for account in (OWN, ACME, BETA):
                usage = batch(*(record(at=stripe.clock.now()) for _ in range(2)))
                await running.exporter.export(of_company(usage, account))
            await until(lambda: counted(stripe, customers) == {OWN: 2, ACME: 2, BETA: 2})
        stripe.disconnect_account(ACME)
        stripe.clock.advance(4 * 3_600)
        often = replace(RHYTHM, look=0.05)
        with capture_logs() as logs:
            async with billing(tmp_path, stripe, clock=clock, rhythm=often):
                await until(lambda: any(line["event"] == "reconciled" for line in logs))
        (line,) = [line for line in logs if line["event"] == "reconciled"]
        assert (line["pairs"], line["differences"]) == (2, 0)
        assert {line["account"] for line in logs if line["event"] == "not_reconciled"} == {ACME}
