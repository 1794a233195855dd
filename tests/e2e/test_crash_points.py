"""The process dies at every named point of commit, freeze, send and settle: lost 0, doubled 0."""

import asyncio
import signal
from pathlib import Path

import pytest
from load import Load, until_billed
from processes import double, service

from otel_usageflow.model.crash_point import POINTS

USERS = [f"user-{number}" for number in range(5)]


@pytest.mark.parametrize("point", POINTS)
async def test_death_at_a_named_point(tmp_path: Path, point: str) -> None:
    """Killed at its first and at its tenth arrival at a point, the service loses and doubles nothing."""
    customers = [argument for user in USERS for argument in ("--customer", f"account_id={user}")]
    async with (
        double("--meter", "api_request", "--no-rate-limits", *customers) as stripe,
        service(tmp_path, stripe) as running,
    ):
        load = Load(running.grpc, running.http, USERS, clients=2, pause=0.01)
        sending = asyncio.create_task(load.run())
        for arrival in (1, 10):
            await load.more(20)
            await running.stop()
            await running.start(die_at=f"{point}#{arrival}")
            assert running.process is not None
            async with asyncio.timeout(30):
                assert await running.process.wait() == -signal.SIGKILL
            await running.start()
        load.stopping.set()
        await sending
        await until_billed(stripe, load, within=30)
        assert (await stripe.ask("violations"))["count"] == 0
