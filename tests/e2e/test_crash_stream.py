"""The process dies at every named point of sending through the stream, and between the two ways."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from load import Load, until_billed
from processes import double, service

USERS = [f"user-{number}" for number in range(8)]
STREAM = ("--set", "exporters::stripe_meter::api=v2_stream")
POINTS = ("freeze: durable", "begin: durable", "send: answered", "settle: written", "settle: durable")


@pytest.mark.parametrize("point", POINTS)
async def test_death_while_a_batch_is_sent(tmp_path: Path, point: str) -> None:
    """Killed at its first and at its fifth arrival at a point, the service loses and doubles nothing of any batch."""
    customers = [argument for user in USERS for argument in ("--customer", f"account_id={user}")]
    async with (
        double("--meter", "api_request", "--no-rate-limits", *customers) as stripe,
        service(tmp_path, stripe) as running,
    ):
        load = Load(running.grpc, running.http, USERS, clients=2, pause=0.01)
        sending = asyncio.create_task(load.run())
        for arrival in (1, 5):
            await load.more(20)
            await running.stop()
            await running.start(*STREAM, die_at=f"{point}#{arrival}")
            assert running.process is not None
            async with asyncio.timeout(30):
                assert await running.process.wait() == -signal.SIGKILL
            await running.start(*STREAM)
        load.stopping.set()
        await sending
        await until_billed(stripe, load, within=30)


async def test_kill_nine_again_and_again_while_the_way_changes(tmp_path: Path) -> None:
    """v1, stream, v1, stream: killed with calls under way each time, every request is billed once."""
    customers = [argument for user in USERS for argument in ("--customer", f"account_id={user}")]
    async with (
        double("--meter", "api_request", "--no-rate-limits", "--latency", "0.05", *customers) as stripe,
        service(tmp_path, stripe) as running,
    ):
        load = Load(running.grpc, running.http, USERS, clients=2, pause=0.01)
        sending = asyncio.create_task(load.run())
        for way in (STREAM, (), STREAM, (), STREAM):
            await load.more(40)
            await running.kill()
            await running.start(*way)
        load.stopping.set()
        await sending
        await until_billed(stripe, load, within=30)
        verifying = await asyncio.create_subprocess_exec(
            sys.executable, *("-m", "otel_usageflow", "ledger", "verify", "--config", str(running.config))
        )
        assert await verifying.wait() == 0
