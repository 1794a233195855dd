"""The running service compares with Stripe from time to time, and warns of usage that waits too long."""

import time
from dataclasses import replace
from pathlib import Path

from billing import billing, record
from compared import YESTERDAY, billed, past, sent, used
from structlog.testing import capture_logs

from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.outcome import Accepted
from otel_usageflow.testing.stripe import StripeDouble

IMPATIENT = replace(RHYTHM, look=0.05)


async def _measured(running: object) -> dict[str, float]:
    found = await running.exporter.measure()  # type: ignore[attr-defined]
    return {one.name: one.value for one in found if "reconcile" in one.name or "unsent" in one.name}


async def test_a_difference_is_found_while_the_service_runs(tmp_path: Path) -> None:
    """It is told in one line of the log with its cause, shows on /metrics, and goes with its cause."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customers = {f"user-{n}": stripe.add_customer({"account_id": f"user-{n}"}) for n in range(4)}
        async with past(tmp_path, customers) as made:
            for user in customers:
                await billed(made, stripe, YESTERDAY + 3_600, 5, user)
            await sent(made, await used(made, YESTERDAY + 4_000, 3, "user-2"), Accepted())
        with capture_logs() as logs:
            async with billing(tmp_path, stripe, rhythm=IMPATIENT) as running:
                await stripe.wait_until(lambda: any(line["event"] == "reconciled" for line in logs))
                measured = await _measured(running)
        (line,) = [line for line in logs if line["event"] == "reconciled"]
        assert (line["pairs"], line["differences"], line["cause"], line["by"]) == (4, 1, "lost", "3")
        assert customers["user-2"] in line["worst"]
        assert measured["otel_usageflow_reconcile_pairs"] == 4
        assert measured["otel_usageflow_reconcile_differences"] == 1
        assert time.time() - measured["otel_usageflow_reconcile_last_run_timestamp_seconds"] < 60


async def test_reads_are_bounded_and_everybody_has_a_turn(tmp_path: Path) -> None:
    """Each time as many pairs as the reads allow, those first that were not compared for longest."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customers = {f"user-{n}": stripe.add_customer({"account_id": f"user-{n}"}) for n in range(5)}
        async with past(tmp_path, customers) as made:
            for user in customers:
                await billed(made, stripe, YESTERDAY + 3_600, 5, user)

        def compared() -> int:
            return sum(line["pairs"] for line in logs if line["event"] == "reconciled")

        config = {"interval": "1s", "reads": 2}
        with capture_logs() as logs:
            async with billing(tmp_path, stripe, rhythm=IMPATIENT, reconcile=config) as running:
                await stripe.wait_until(lambda: compared() >= 5, timeout=20)
                assert (await _measured(running))["otel_usageflow_reconcile_pairs"] == 5
        rounds = [line["pairs"] for line in logs if line["event"] == "reconciled"]
        assert max(rounds) <= 2


async def test_it_can_be_switched_off_and_keeps_its_interval(tmp_path: Path) -> None:
    """An interval of 0s never compares, and one of a day not again after a restart."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            await billed(made, stripe, YESTERDAY + 3_600, 5)
        with capture_logs() as logs:
            async with billing(tmp_path, stripe, rhythm=IMPATIENT, reconcile={"interval": "0s"}) as running:
                await running.bill(record())
                await stripe.wait_until(lambda: stripe.total("api_request", customer) == 6)
            assert stripe.reads("/v1/billing/meters/") == 0
            async with billing(tmp_path, stripe, rhythm=IMPATIENT):
                await stripe.wait_until(lambda: any(line["event"] == "reconciled" for line in logs))
            reads = stripe.reads("/v1/billing/meters/")
            async with billing(tmp_path, stripe, rhythm=IMPATIENT) as running:
                await running.bill(record())
                await stripe.wait_until(lambda: stripe.total("api_request", customer) == 7)
            assert stripe.reads("/v1/billing/meters/") == reads


async def test_usage_that_waits_long_is_told(tmp_path: Path) -> None:
    """The age of the oldest unsent usage is measured; over the limit the log warns once, and says when it is over."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        clock = SteadyClock()
        with capture_logs() as logs:
            async with billing(tmp_path, stripe, rhythm=IMPATIENT, clock=clock, unsent_warning="30m") as running:
                assert (await _measured(running))["otel_usageflow_oldest_unsent_usage_age_seconds"] == 0
                with stripe.outage():
                    await running.bill(record(at=time.time() - 3_000))
                    await stripe.wait_until(lambda: any(line["event"] == "usage_waits_long" for line in logs))
                    waits = (await _measured(running))["otel_usageflow_oldest_unsent_usage_age_seconds"]
                    assert 3_000 <= waits < 3_100
                await stripe.wait_until(lambda: stripe.total("api_request", customer) == 1)
                await stripe.wait_until(lambda: any(line["event"] == "usage_is_sent_in_time_again" for line in logs))
        assert len([line for line in logs if line["event"] == "usage_waits_long"]) == 1
