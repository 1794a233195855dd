"""A request that comes again after its policy's event name or account has changed is not billed under both."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from billing import CHAT, Billing, batch, billing, record
from traces import request as waiting_request
from traces import trace_batch

from otel_usageflow.model.usage import Reason, Terms, UsageBatch
from otel_usageflow.testing.stripe import StripeDouble

OTHER = replace(CHAT, event_name="other_request")
ELSEWHERE = replace(CHAT, account="acct_1")


def furnish(stripe: StripeDouble) -> dict[Terms, str]:
    """A meter and a customer for each; terms -> customer."""
    acme = stripe.add_customer({"account_id": "acme"})
    for name in ("api_request", "other_request"):
        stripe.add_meter(name)
    stripe.add_meter("api_request", account="acct_1")
    return {CHAT: acme, OTHER: acme, ELSEWHERE: stripe.add_customer({"account_id": "acme"}, account="acct_1")}


async def change(running: Billing, *terms: Terms) -> None:
    (await running.exporter.expect(terms)).apply()


@pytest.mark.parametrize("new", [OTHER, ELSEWHERE])
async def test_what_comes_again_is_the_same_charge(tmp_path: Path, new: Terms) -> None:
    """The first answer was lost, the second comes after the reload: billed once, under the terms of before."""
    async with StripeDouble() as stripe:
        customers = furnish(stripe)
        one, two = record(quantity=1), record(quantity=10)
        async with billing(tmp_path, stripe, (CHAT,)) as running:
            await running.bill(one)
            await change(running, new)
            await running.bill(one._replace(terms=new), two._replace(terms=new))
            await stripe.wait_until(lambda: seen(stripe, customers, new) == 10)
            await stripe.wait_until(lambda: seen(stripe, customers, CHAT) == 1)
            await running.bill(two)  # judged before the change, and slow
            await running.bill(record(quantity=100, terms=new))
            await stripe.wait_until(lambda: seen(stripe, customers, new) == 110)
        assert seen(stripe, customers, CHAT) == 1


def seen(stripe: StripeDouble, customers: dict[Terms, str], terms: Terms) -> int:
    return int(stripe.total(terms.event_name, customers[terms], account=terms.account))


async def test_other_spans_of_one_request(tmp_path: Path) -> None:
    """Spans with one request id around the reload, new ones and those that had given way, are billed once."""
    async with StripeDouble() as stripe:
        customers = furnish(stripe)
        now = time.time()
        spans = [record(quantity=10**n, at=now - 60 + n)._replace(request_id=bytes(16)) for n in range(3)]
        async with billing(tmp_path, stripe, (CHAT,)) as running:
            await running.bill(*spans[:2])
            await change(running, OTHER)
            await running.bill(*(one._replace(terms=OTHER) for one in spans))
            await running.bill(record(quantity=1_000, terms=OTHER))
            await stripe.wait_until(lambda: seen(stripe, customers, OTHER) == 1_000)
        assert seen(stripe, customers, CHAT) == 1


async def test_also_after_a_restart(tmp_path: Path) -> None:
    """The ledger knows where a policy has billed, whatever the process forgets."""
    async with StripeDouble() as stripe:
        customers = furnish(stripe)
        one = record(quantity=1)
        async with billing(tmp_path, stripe, (CHAT,)) as running:
            await running.bill(one)
        async with billing(tmp_path, stripe, (OTHER,)) as running:
            await running.bill(one._replace(terms=OTHER), record(quantity=10, terms=OTHER))
            await stripe.wait_until(lambda: seen(stripe, customers, OTHER) == 10)
        assert seen(stripe, customers, CHAT) == 1


async def test_another_policy_may_bill_the_same_request(tmp_path: Path) -> None:
    """One that comes with the reload, under an event name of its own, is no change of the first."""
    more = replace(OTHER, policy="more")
    async with StripeDouble() as stripe:
        customers = furnish(stripe)
        one = record(quantity=1)
        async with billing(tmp_path, stripe, (CHAT,)) as running:
            await running.bill(one)
            await change(running, CHAT, more)
            await running.bill(one, one._replace(terms=more))
            await stripe.wait_until(lambda: seen(stripe, customers, OTHER) == 1)
            await stripe.wait_until(lambda: seen(stripe, customers, CHAT) == 1)


async def test_what_was_not_billed_is_judged_anew(tmp_path: Path) -> None:
    """A request that had no user under the terms of before is billed when it comes again."""
    async with StripeDouble() as stripe:
        customers = furnish(stripe)
        one = record(quantity=1)
        async with billing(tmp_path, stripe, (CHAT,)) as running:
            await running.bill(one._replace(user=None, reason=Reason.NO_USER))
            await change(running, OTHER)
            await running.bill(one._replace(terms=OTHER))
            await stripe.wait_until(lambda: seen(stripe, customers, OTHER) == 1)


async def test_what_is_old_is_judged_anew(tmp_path: Path) -> None:
    """Who sends spans of hours ago once more, after a change, wants them billed under the new terms."""
    async with StripeDouble() as stripe:
        customers = furnish(stripe)
        one = record(quantity=1, at=time.time() - 2 * 3600)
        async with billing(tmp_path, stripe, (CHAT,)) as running:
            await running.bill(one)
            await change(running, OTHER)
            await running.bill(one._replace(terms=OTHER))
            await stripe.wait_until(lambda: seen(stripe, customers, OTHER) == 1)


async def test_a_request_that_waits_for_its_trace_is_known_as_well(tmp_path: Path) -> None:
    """It waits under the terms of before, and comes again under those of now."""
    old, new = replace(CHAT, quantity=None), replace(OTHER, quantity=None)
    async with StripeDouble() as stripe:
        furnish(stripe)
        ended = time.time_ns()
        async with billing(tmp_path, stripe, (old,)) as running:
            await running.exporter.export(trace_batch(waiting_request(1, terms=old, wait=60, ended_ns=ended)))
            await change(running, new)
            await running.exporter.export(trace_batch(waiting_request(1, terms=new, wait=60, ended_ns=ended)))
            assert (await running.storage._writer.run(_waiting, weight=0)) == ["api_request"]


def _waiting(connection: Any) -> list[str]:
    return [
        name for (name,) in connection.execute("SELECT event_name FROM trace_requests JOIN meters USING (meter_id)")
    ]


async def test_it_costs_nothing_where_nothing_changed(tmp_path: Path) -> None:
    """A ledger whose policies have always billed in one place looks at nothing more."""
    async with StripeDouble() as stripe:
        furnish(stripe)
        async with billing(tmp_path, stripe, (CHAT,)) as running:
            await running.bill(record())
            await change(running, CHAT)
            assert running.exporter._ledger._former is None  # type: ignore[attr-defined]
            await running.exporter.export(UsageBatch(records=batch(record()).records))
