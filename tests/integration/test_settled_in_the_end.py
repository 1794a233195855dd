"""Faults, late refusals and an outage of more than a day together: in the end the ledger says what Stripe says."""

import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from billing import billing, record, total
from looking_back import HOUR, RHYTHM, clock_of, command, rows, states

from otel_usageflow.extensions.sqlite_storage.file import transaction
from otel_usageflow.extensions.sqlite_storage.flow import event_steps
from otel_usageflow.model.usage import Terms
from otel_usageflow.testing.stripe import Fault, RateLimits, Settings, StripeDouble

EVENTS = "/v1/billing/meter_events"
OPEN = """SELECT 1 FROM error_reports WHERE settled_at IS NULL
          UNION ALL SELECT 1 FROM error_samples WHERE settled_at IS NULL"""
UNDER_WAY = "SELECT 1 FROM meter_events WHERE state = 1 AND first_attempt_at <= ?"
DIRECT = Terms(policy="direct", event_name="api_request", metadata_field=None)
FAULTS = (Fault.RESET_AFTER, Fault.RESET_BEFORE, Fault.ERROR_AFTER, Fault.ERROR_BEFORE, Fault.ERROR_STORED)


@pytest.mark.parametrize("seed", range(3))
async def test_everything_is_billed_once_or_kept_aside(tmp_path: Path, seed: int) -> None:
    """What the ledger calls accepted is what Stripe has counted; the rest is rejected, and billed after a release."""
    dice = random.Random(seed)
    settings = Settings(
        limits=RateLimits.off(), validation="asynchronous", report_samples=1, reserve_rejected=dice.random() < 0.5
    )
    async with StripeDouble(settings=settings) as stripe:
        stripe.add_meter("api_request")
        customers = [stripe.add_customer() for _ in range(5)]
        for number, fault in enumerate(FAULTS):
            stripe.fault(EVENTS, fault, times=None, probability=0.15, seed=10 * seed + number)
        stripe.reject("api_request", "meter_event_invalid_value", times=None, probability=0.2, seed=seed)
        billed: Counter[str] = Counter()
        options = {"aggregation": {"window": "0s"}, "clock": clock_of(stripe), "rhythm": RHYTHM}
        async with billing(tmp_path, stripe, (DIRECT,), **options) as running:

            async def bill(number: int) -> None:
                for _ in range(number):
                    customer, quantity = dice.choice(customers), dice.randrange(1, 10**9)
                    at = stripe.clock.now() - dice.choice([1, 30, 90])
                    await running.bill(record(customer, terms=DIRECT, quantity=quantity, at=at))
                    billed[customer] += quantity

            await bill(25)
            await stripe.wait_until(lambda: len(states(tmp_path)) >= 20)
            down = [stripe.fault(EVENTS, fault, times=None) for fault in (Fault.RESET_AFTER, Fault.RESET_BEFORE)]
            down[0].times = 3
            await bill(10)
            await stripe.wait_until(lambda: down[1].fired >= 2)
            began = stripe.clock.now()
            stripe.clock.advance(30 * HOUR)
            # What was under way while the clock moved would be a resend after 30 hours, as no sender makes.
            await stripe.wait_until(lambda: not rows(tmp_path, UNDER_WAY, began))
            stripe.clear_faults()
            await bill(10)
            await stripe.wait_until(lambda: len(states(tmp_path)) == 45 and _still(tmp_path), timeout=30)
            rounds = tries = 0
            while (
                rounds < 3 and (tries := tries + 1) < 60
            ):  # reports, then summaries, then what is sent again, and what is reported about that
                stripe.clock.advance(0.3 * HOUR)
                before = stripe.reads("/v2/core/events")
                await stripe.wait_until(lambda before=before: stripe.reads("/v2/core/events") > before)
                await stripe.wait_until(lambda: _still(tmp_path), timeout=20)
                asked = stripe.reads("/v1/billing/meters/*/event_summaries")
                with suppress(TimeoutError):  # there may be nothing to ask in this round
                    await stripe.wait_until(
                        lambda asked=asked: stripe.reads("/v1/billing/meters/*/event_summaries") > asked, timeout=0.2
                    )
                done = set(states(tmp_path)) <= {"ACCEPTED", "REFUSED"} and not rows(tmp_path, OPEN)
                rounds = rounds + 1 if done else 0
            assert {c: total(stripe, c) for c in customers} == {c: _value(tmp_path, c, 2) for c in customers}
            assert {c: billed[c] - _value(tmp_path, c, 2) for c in customers} == {
                c: _value(tmp_path, c, 3) for c in customers
            }
            stripe.clear_rejections()
            with command(tmp_path) as connection, transaction(connection):
                for (event_id,) in connection.execute("SELECT event_id FROM meter_events WHERE state = 3").fetchall():
                    event_steps.resend(connection, event_id)
            await stripe.wait_until(lambda: all(total(stripe, c) == billed[c] for c in customers), timeout=20)
        assert stripe.violations == []


def _still(directory: Path) -> bool:
    """Nothing waits to be sent."""
    return not {"FROZEN", "SENDING"} & set(states(directory))


def _value(directory: Path, customer: str, state: int) -> int:
    query = "SELECT coalesce(sum(CAST(value AS INTEGER)), 0) FROM meter_events WHERE customer = ? AND state = ?"
    ((value,),) = rows(directory, query, customer, state)
    assert isinstance(value, int)
    return value
