"""Corrections and comparisons of usage that went by the stream: the same as of any other."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from billing import billing, record, total
from compared import YESTERDAY, config
from test_corrections import HOURS_25, IMPATIENT, ask, later, ready, settled, used

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.correction import CorrectionState
from otel_usageflow.testing.stripe import Fault, StripeDouble

ON: dict[str, Any] = {"api": "v2_stream"}
STREAM = "/v2/billing/meter_event_stream"


async def test_a_whole_event_of_the_stream_is_cancelled(tmp_path: Path) -> None:
    """Its identifier is all that a cancellation needs."""
    async with StripeDouble() as stripe, ready(stripe) as customer:
        async with billing(tmp_path, stripe, rhythm=IMPATIENT, **ON) as running:
            await used(running, stripe, 7)
            identifier = await used(running, stripe, 5)
            (found,) = await settled(tmp_path, await ask(tmp_path, identifier))
        assert found.state is CorrectionState.CANCELLED
        assert (total(stripe, customer), len(stripe.accepted)) == (7, 2)
        with open_reader(tmp_path) as reader:
            story = reader.explain_event(identifier)
        assert story is not None
        assert story[0].state == "cancelled"


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.ERROR_AFTER, Fault.SLOW_AFTER, Fault.RATE_LIMITED])
async def test_a_part_goes_by_the_stream_once(tmp_path: Path, fault: Fault) -> None:
    """A correction by a quantity is sent until it is received, and counts once."""
    async with StripeDouble() as stripe, ready(stripe) as customer:
        async with billing(tmp_path, stripe, rhythm=IMPATIENT, **ON) as running:
            identifier = await used(running, stripe, 5)
            stripe.fault(STREAM, fault, times=2)
            (found,) = await settled(tmp_path, await ask(tmp_path, identifier, -3))
        assert found.state is CorrectionState.BILLED
        assert total(stripe, customer) == 2


async def test_after_a_day_a_negative_event_goes_by_the_stream(tmp_path: Path) -> None:
    """What can be cancelled no more is taken off by an event of the same moment."""
    async with StripeDouble() as stripe, ready(stripe) as customer:
        async with billing(tmp_path, stripe, **ON) as running:
            identifier = await used(running, stripe, 5)
        stripe.clock.advance(HOURS_25)
        async with billing(tmp_path, stripe, clock=later(HOURS_25), **ON):
            (found,) = await settled(tmp_path, await ask(tmp_path, identifier))
        first, second = stripe.accepted
        assert found.state is CorrectionState.BILLED
        assert (second.value_text, second.timestamp) == ("-5", first.timestamp)
        assert total(stripe, customer) == 0


async def test_what_the_stream_has_lost_shows_in_reconcile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`reconcile` agrees while everything counts, and exits with 3 where an event was received and is not counted."""
    async with StripeDouble() as stripe, ready(stripe):
        async with billing(tmp_path, stripe, clock=later(-2 * 3_600), **ON) as running:
            await running.bill(record(quantity=4, at=YESTERDAY), record(quantity=5, at=YESTERDAY + 600))
            await stripe.wait_until(lambda: len(stripe.accepted) == 2)
        command = ["reconcile", "--config", str(config(tmp_path, stripe)), "--since", "3d", "--format", "json"]
        assert await asyncio.to_thread(main, command) == 0
        capsys.readouterr()
        stripe.lose("api_request")
        assert await asyncio.to_thread(main, command) == 3
        assert "-4" in json.dumps(json.loads(capsys.readouterr().out))
