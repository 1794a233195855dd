"""Keys and accounts that do not fit: usage waits, the log says whose and what to do, and it goes on by itself."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from billing import CHAT, billing, record, total
from recording_components import until
from structlog.testing import capture_logs

from otel_usageflow.testing.stripe import StripeDouble

KEY = "rk_test_service"
ALL = {"billing_meter_read", "customer_read", "event_read", "billing_meter_event_write"}


@pytest.fixture
def allowed() -> set[str]:
    """What the restricted key may do; a test changes it while it is used."""
    return set(ALL)


@pytest.fixture
async def stripe(allowed: set[str]) -> AsyncIterator[StripeDouble]:
    """A Stripe that knows a restricted key."""
    async with StripeDouble([KEY, "rk_live_service"], permissions={KEY: allowed}) as double:
        double.add_meter("api_request")
        yield double


def said(lines: list[Any], event: str) -> dict[str, Any]:
    """The first line of this event."""
    found: dict[str, Any] = next(one for one in lines if one["event"] == event)
    return found


@pytest.mark.parametrize(
    ("missing", "event"),
    [
        ("billing_meter_read", "stripe_not_readable_at_start"),
        ("customer_read", "stripe_not_readable"),
        ("event_read", "customer_changes_not_readable"),
        ("event_read", "error_reports_forbidden"),
        ("billing_meter_event_write", "stripe_refuses_us"),
    ],
)
async def test_a_permission_that_is_missing(
    tmp_path: Path, stripe: StripeDouble, allowed: set[str], missing: str, event: str
) -> None:
    """The line names the account and the permission; what needs it waits, and goes on when it is given."""
    customer = stripe.add_customer({"account_id": "acme"})
    allowed.discard(missing)
    with capture_logs() as lines:
        async with billing(tmp_path, stripe, api_key=KEY) as running:
            await running.bill(record(quantity=2))
            await until(lambda: any(one["event"] == event for one in lines), 10)
            line = said(lines, event)
            assert line["account"] == "own"
            assert f"rak_{missing}" in line["why"]
            assert KEY not in str(line)
            allowed.add(missing)
            await stripe.wait_until(lambda: total(stripe, customer) == 2, timeout=20)
    assert stripe.violations == []


async def test_a_revoked_key(tmp_path: Path, stripe: StripeDouble) -> None:
    """It stops the sending and loses nothing; with the new key, after a restart, everything is sent, once."""
    customer = stripe.add_customer({"account_id": "acme"})
    with capture_logs() as lines:
        async with billing(tmp_path, stripe, api_key=KEY) as running:
            await running.bill(record(quantity=1))
            await stripe.wait_until(lambda: total(stripe, customer) == 1)
            stripe.api.keyring.roll(KEY, "rk_test_rolled")
            await running.bill(record(quantity=2))
            await until(lambda: any(one["event"] == "stripe_refuses_us" for one in lines), 10)
    line = said(lines, "stripe_refuses_us")
    assert line["account"] == "own"
    assert "put the key that is valid now" in line["remedy"]
    assert "restart" in line["remedy"]
    assert KEY not in str(lines)
    async with billing(tmp_path, stripe, api_key="rk_test_rolled") as running:
        await running.bill(record(quantity=4))
        await stripe.wait_until(lambda: total(stripe, customer) == 7)
    assert stripe.violations == []


async def test_a_key_that_comes_back(tmp_path: Path, stripe: StripeDouble) -> None:
    """A key that was revoked and is taken again needs no restart: it is tried from time to time."""
    customer = stripe.add_customer({"account_id": "acme"})
    async with billing(tmp_path, stripe, api_key=KEY) as running:
        stripe.api.keys.discard(KEY)
        await running.bill(record(quantity=2))
        await stripe.wait_until(lambda: stripe.calls[-1].status == 401)
        stripe.api.keys.add(KEY)
        await stripe.wait_until(lambda: total(stripe, customer) == 2)


async def test_an_account_that_is_gone(tmp_path: Path, stripe: StripeDouble) -> None:
    """One company that ends its connection is named with the remedy, and holds up no other."""
    stripe.settings.account_access = "connected"
    stripe.connect_account("acct_stays")
    stripe.connect_account("acct_goes")
    customers = {}
    for account in ("acct_stays", "acct_goes"):
        stripe.add_meter("api_request", account=account)
        customers[account] = stripe.add_customer({"account_id": "acme"}, account=account)
    terms = tuple(replace(CHAT, account=account) for account in customers)
    with capture_logs() as lines:
        async with billing(tmp_path, stripe, terms, api_key=KEY) as running:
            stripe.disconnect_account("acct_goes")
            for one in terms:
                await running.bill(record(quantity=2, terms=one))
            await stripe.wait_until(
                lambda: stripe.total("api_request", customers["acct_stays"], account="acct_stays") == 2
            )
            await until(lambda: any(one.get("account") == "acct_goes" for one in lines), 10)
    line = next(one for one in lines if one.get("account") == "acct_goes")
    assert "connect" in str(line)
    assert all(event.account == "acct_stays" for event in stripe.accepted)


async def test_the_wrong_mode(tmp_path: Path, stripe: StripeDouble) -> None:
    """A live key finds no customer of a sandbox: the usage waits for a live one, in a book of its own."""
    sandbox = stripe.add_customer({"account_id": "acme"})
    live = stripe.account(None, livemode=True)
    live.meters.create({"event_name": "api_request", "display_name": "x", "default_aggregation": {"formula": "sum"}})
    async with billing(tmp_path, stripe, api_key="rk_live_service", customers={"refresh": "1s"}) as running:
        await running.bill(record(quantity=2))
        await stripe.wait_until(lambda: any("/v1/customers" in call.path for call in stripe.calls))
        customer = live.customers.create({"metadata": {"account_id": "acme"}, "email": None, "name": None}).id
        await stripe.wait_until(lambda: stripe.total("api_request", customer, livemode=True) == 2, timeout=20)
    assert total(stripe, sandbox) == 0
    async with billing(tmp_path, stripe, api_key=KEY) as running:  # the same request, as a test key sees it
        await running.bill(record(quantity=4))
        await stripe.wait_until(lambda: total(stripe, sandbox) == 4)
    assert stripe.total("api_request", customer, livemode=True) == 2
