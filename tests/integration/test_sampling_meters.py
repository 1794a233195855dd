"""Meters under `sampling: adjust`: what is weighed can only be summed."""

from pathlib import Path

import pytest
from minimal import minimal

from otel_usageflow.errors import StartError
from otel_usageflow.service.service import Service
from otel_usageflow.testing.stripe import StripeDouble


async def test_a_meter_that_counts_events_cannot_be_fed_by_weight(tmp_path: Path) -> None:
    """It would ignore how much each request stands for: the start fails under adjust, and only there."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", formula="count")
        received = Service(minimal(tmp_path / "received", stripe))
        await received.start()
        await received.stop()
        adjusting = Service(minimal(tmp_path / "adjust", stripe, processors__usage_policy__sampling="adjust"))
        try:
            with pytest.raises(StartError, match=r"counts events.*aggregates by sum"):
                await adjusting.start()
        finally:
            await adjusting.stop()
