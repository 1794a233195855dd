"""A key of another account than before: nothing is sent to it, nothing is judged by it, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from billing import CHAT, billing, record, total
from compared import config

from otel_usageflow.cli import main
from otel_usageflow.ledger.identity import AnotherAccount, is_another_account
from otel_usageflow.testing.stripe import Fault, StripeDouble


@pytest.fixture
async def ours() -> AsyncIterator[StripeDouble]:
    """The account that was billed before."""
    async with StripeDouble() as double:
        double.add_meter("api_request")
        yield double


@pytest.fixture
async def other() -> AsyncIterator[StripeDouble]:
    """Another one, with a meter of the same event name and a customer of the same name."""
    async with StripeDouble() as double:
        double.add_meter("api_request")
        double.add_customer({"account_id": "acme"})
        yield double


def test_what_makes_another_account() -> None:
    """None of the meters from before is there; one of them is enough to know the account again."""
    assert is_another_account({"mtr_1", "mtr_2"}, ["mtr_3"])
    assert is_another_account({"mtr_1"}, [])
    assert not is_another_account({"mtr_1", "mtr_2"}, ["mtr_2", "mtr_3"])
    assert not is_another_account((), ["mtr_3"])


async def test_a_meter_that_is_not_listed_is_asked_for(tmp_path: Path, ours: StripeDouble) -> None:
    """An account whose list lacks the meters from before is known by them all the same, if they are there."""
    customer = ours.add_customer({"account_id": "acme"})
    listed = ours.account().meters
    async with billing(tmp_path, ours) as running:
        await running.bill(record(quantity=1))
        await ours.wait_until(lambda: total(ours, customer) == 1)
    ours.add_meter("other")
    everything, wanted = listed.list, replace(CHAT, event_name="other")
    listed.list = lambda params: (
        (  # type: ignore[method-assign]
            answer := everything(params)
        )
        | {"data": [one for one in answer["data"] if one["event_name"] == "other"]}
    )
    async with billing(tmp_path, ours, (wanted,)) as running:
        await running.bill(record(quantity=2, terms=wanted))
        await ours.wait_until(lambda: total(ours, customer, "other") == 2)


async def test_a_start_is_refused(tmp_path: Path, ours: StripeDouble, other: StripeDouble) -> None:
    """The words say why and what to do; what was to be sent goes to the account from before, once."""
    customer = ours.add_customer({"account_id": "acme"})
    async with billing(tmp_path, ours) as running:
        await running.bill(record(quantity=1))
        await ours.wait_until(lambda: total(ours, customer) == 1)
        ours.fault("/v1/billing/meter_events", Fault.RESET_AFTER, times=None)  # from here on nobody knows
        await running.bill(record(quantity=2))
        await ours.wait_until(lambda: total(ours, customer) == 3)
    ours.clear_faults()
    with pytest.raises(AnotherAccount, match="put back a key of the account from before"):
        async with billing(tmp_path, other):
            pass
    assert other.accepted == []
    async with billing(tmp_path, ours) as running:
        await running.bill(record(quantity=4))
        await ours.wait_until(lambda: total(ours, customer) == 7)
    assert ours.violations == []


async def test_found_out_late(tmp_path: Path, ours: StripeDouble, other: StripeDouble) -> None:
    """Where Stripe did not answer at the start, the service ends as soon as it finds out; nothing is sent."""
    customer = ours.add_customer({"account_id": "acme"})
    async with billing(tmp_path, ours) as running:
        await running.bill(record(quantity=1))
        await ours.wait_until(lambda: total(ours, customer) == 1)
    other.fault("/v", Fault.RESET_BEFORE, times=None)
    async with billing(tmp_path, other) as running:
        await running.bill(record(quantity=2))
        other.clear_faults()
        with pytest.raises(AnotherAccount):
            async with asyncio.timeout(20):
                await running.exporter.watch()
    assert other.accepted == []
    async with billing(tmp_path, ours):
        await ours.wait_until(lambda: total(ours, customer) == 3)


async def test_commands(
    tmp_path: Path, ours: StripeDouble, other: StripeDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    """`reconcile` compares nothing with another account, and `doctor` calls it a problem."""
    customer = ours.add_customer({"account_id": "acme"})
    async with billing(tmp_path, ours) as running:
        await running.bill(record(quantity=1))
        await ours.wait_until(lambda: total(ours, customer) == 1)
    path = config(tmp_path, other)
    assert await asyncio.to_thread(main, ["reconcile", "--config", str(path), "--since", "1d"]) == 2
    assert "another Stripe account" in capsys.readouterr().err
    assert await asyncio.to_thread(main, ["doctor", "--config", str(path)]) == 3
    assert "another Stripe account" in capsys.readouterr().out
    assert await asyncio.to_thread(main, ["doctor", "--config", str(config(tmp_path, ours))]) == 0
