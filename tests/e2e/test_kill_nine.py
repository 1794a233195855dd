"""Kill -9 under load: everything that was acknowledged is billed exactly once.

The oracle is the clients' own memory of what was acknowledged, and the double's totals; neither knows the ledger.
"""

import asyncio
import os
import random
from pathlib import Path

import pytest
from load import Load, until_billed
from processes import Running, double, service

KILLS = int(os.environ.get("CHAOS_KILLS", "8"))
"""`make chaos` takes many more, with a heavier load and every fault that the double knows."""
LONG = KILLS > 50
FAULTS = ["reset_before", "reset_after", "error_after", "error_stored", "unavailable", "slow_after"]
ALL_FAULTS = [*FAULTS, "error_before", "rate_limited", "lock_timeout", "malformed", "hang_after"]
USERS = [f"user-{number}" for number in range(20)]


async def _kill_and_start(running: Running, dice: random.Random, kills: int) -> None:
    for _ in range(kills):
        await asyncio.sleep(dice.uniform(0.1, 1.2))
        await running.kill()
        await running.start()


@pytest.mark.parametrize("window", ["1s", "0s"])
async def test_every_acknowledged_request_is_billed_once(tmp_path: Path, window: str) -> None:
    """However often the service dies, and however Stripe's answers get lost: lost 0, doubled 0."""
    dice = random.Random(20261122)
    customers = [argument for user in USERS for argument in ("--customer", f"account_id={user}")]
    async with (
        double("--meter", "api_request", "--no-rate-limits", *customers) as stripe,
        service(tmp_path, stripe, window) as running,
    ):
        for fault in ALL_FAULTS if LONG else FAULTS:
            await stripe.ask(
                "faults",
                {
                    "path": "/v1/billing/meter_events",
                    "fault": fault,
                    "times": None,
                    "probability": 0.03,
                    "seed": len(fault),
                    "seconds": 0.3,
                },
            )
        # With every record sent by itself, Stripe's one call at a time for each customer is the limit.
        load = Load(running.grpc, running.http, USERS, pause=0.0 if window == "1s" else 0.5, clients=4)
        if LONG and window == "1s":
            load.batch, load.clients = 200, 8
        sending = asyncio.create_task(load.run())
        await _kill_and_start(running, dice, KILLS - 2)
        load.stopping.set()
        await sending
        await _kill_and_start(running, dice, 2)
        await until_billed(stripe, load, within=600 if LONG else 60)
        assert (await stripe.ask("violations"))["count"] == 0
        print(
            f"window {window}: {KILLS} kills, {load.requests} requests acknowledged, {load.retries} retries, "
            f"{sum(load.acknowledged.values())} tokens billed; lost 0, doubled 0"
        )


async def test_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    """A clean stop under load exits 0 in time, and what was acknowledged is billed after the next start."""
    customers = [argument for user in USERS for argument in ("--customer", f"account_id={user}")]
    async with (
        double("--meter", "api_request", "--no-rate-limits", *customers) as stripe,
        service(tmp_path, stripe) as running,
    ):
        load = Load(running.grpc, running.http, USERS)
        sending = asyncio.create_task(load.run())
        for _ in range(2):
            await load.more(500)
            async with asyncio.timeout(9):
                assert await running.stop() == 0
            await running.start()
        load.stopping.set()
        await sending
        await until_billed(stripe, load, within=60)
