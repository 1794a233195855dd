"""The process dies at every named point of a correction: it is carried out once."""

import asyncio
import signal
import time
from pathlib import Path

import aiohttp
import pytest
from load import request
from processes import Double, Running, double, service

from otel_usageflow.extensions.sqlite_storage.correction.adjust import Asker
from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments
from otel_usageflow.ledger.correction import SETTLED
from otel_usageflow.model.crash_point import CORRECTION_POINTS


async def _billed(running: Running, stripe: Double) -> str:
    """One request of 7 that is billed; the identifier of its meter event."""
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{running.http}/v1/traces"
        body = request([(bytes(range(16)), "acme", 7)])
        async with session.post(url, data=body, headers={"Content-Type": "application/x-protobuf"}) as answer:
            assert answer.status == 200
    async with asyncio.timeout(30):
        while not (accepted := (await stripe.ask("accepted"))["data"]):  # noqa: ASYNC110  (another process)
            await asyncio.sleep(0.05)
    return str(accepted[0]["identifier"])


@pytest.mark.parametrize(
    ("point", "quantity", "left"),
    [
        *((point, None, "0") for point in CORRECTION_POINTS),
        *((point, -3, "4") for point in CORRECTION_POINTS if point.startswith("correction")),
    ],
)
async def test_death_in_the_middle_of_a_correction(
    tmp_path: Path, point: str, quantity: int | None, left: str
) -> None:
    """Killed at a point of cancelling, or of telling the correction, the service does it once, and never both."""
    arguments = ("--meter", "api_request", "--no-rate-limits", "--customer", "account_id=acme")
    async with double(*arguments) as stripe, service(tmp_path, stripe) as running:
        identifier = await _billed(running, stripe)
        await running.stop()
        await running.start(die_at=point)
        adjustments = Adjustments(tmp_path / "ledger")
        asker = Asker("tester", "a test", time.time())
        asked = await asyncio.to_thread(adjustments.correct_event, identifier, quantity, asker)
        assert running.process is not None
        async with asyncio.timeout(30):
            assert await running.process.wait() == -signal.SIGKILL
        await running.start()
        async with asyncio.timeout(30):
            while not all(one.state in SETTLED for one in adjustments.listed(asked.numbers)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert await stripe.totals() == {"acme": left}
        made = (len((await stripe.ask("accepted"))["data"]) - 1, len((await stripe.ask("cancelled"))["data"]))
        assert made == ((0, 1) if quantity is None else (1, 0))
