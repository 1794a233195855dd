"""Connecting an account and renewing its tokens are killed between any two steps: no code is exchanged twice."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from connecting import connecting, written
from recording_components import until
from structlog.testing import capture_logs

from otel_usageflow.ledger.connections import ConnectionState
from otel_usageflow.model.crash_point import CONNECT_POINTS
from otel_usageflow.testing.stripe import StripeDouble

_RUN = """
import asyncio, sys, time
from pathlib import Path
from connecting import connecting

class Clock:
    def __call__(self):
        return time.time() + float(sys.argv[3])

async def main():
    async with connecting(Path(sys.argv[1]), clock=Clock()) as service:
        if sys.argv[2]:
            await service.visit(sys.argv[2])
        await asyncio.sleep(30)

asyncio.run(main())
"""
_HERE = Path(__file__).parents[1]


async def killed(point: str, config: Path, back: str = "", ahead: float = 0.0) -> None:
    """Run the exporter in a process until it is killed at a point."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _RUN, str(config), back, str(ahead)),
        env={
            **os.environ,
            "OTEL_USAGEFLOW_DIE_AT": point,
            "PYTHONPATH": str(_HERE / "support"),
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(60):
        assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("point", [one for one in CONNECT_POINTS if one.startswith("connect")])
async def test_death_while_an_account_is_connected(tmp_path: Path, point: str) -> None:
    """Afterwards the link is open, or used up; if its end is not known that is said, and a new link mends it."""
    async with StripeDouble() as stripe:
        config = written(tmp_path, stripe)
        async with connecting(config) as service:
            back = stripe.approve(await service.url(), "acct_1")
        await killed(point, config, back)
        with capture_logs() as logs:
            async with connecting(config) as service:
                page = await service.visit(back)
                if point in ("connect: taken", "connect: durable"):
                    assert page.status == 200
                else:
                    assert (page.status, "It is not known" in page.text) == (502, True)
                    (told,) = [one for one in logs if one["event"] == "connect_interrupted"]
                    assert "connect url" in told["remedy"]
                    assert (await service.visit(stripe.approve(await service.url(), "acct_1"))).status == 200
                assert service.connections()["acct_1"].usable
        codes = [call.form["code"] for call in stripe.calls if call.path == "/oauth/token"]
        assert len(codes) == len(set(codes))
        assert stripe.connected() == ["acct_1"]


@pytest.mark.parametrize("point", [one for one in CONNECT_POINTS if one.startswith("renew")])
async def test_death_while_tokens_are_renewed(tmp_path: Path, point: str) -> None:
    """Either the account goes on, or its pair was lost with the answer, and it says so and waits to be connected."""
    async with StripeDouble() as stripe:
        config = written(tmp_path, stripe, kind="app")
        async with connecting(config) as service:
            await service.visit(stripe.approve(await service.url(), "acct_1"))
        await killed(point, config, ahead=3000)
        lost = point in ("renew: answered", "renew: written")
        with capture_logs() as logs:
            async with connecting(config) as service:
                if lost:
                    await until(lambda: "connected_account_lost" in [one["event"] for one in logs], 20)
                    assert service.connections()["acct_1"].state is ConnectionState.LOST
                    page = await service.visit(stripe.approve(await service.url(), "acct_1"))
                    assert page.status == 200
                await until(lambda: not service.connections()["acct_1"].renewing, 20)
                assert service.connections()["acct_1"].usable
