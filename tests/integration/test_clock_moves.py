"""The system's clock is set while the whole service runs: every request is billed once, at the time of its span."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from minimal import minimal
from otlp_harness import post
from span_builder import http, payload, span
from structlog.testing import capture_logs

from otel_usageflow.component import Kind
from otel_usageflow.model.clock import SECOND, SteadyClock
from otel_usageflow.service.service import Service
from otel_usageflow.testing.stripe import Fault, StripeDouble

MINUTE, HOUR, DAY = 60, 3_600, 86_400
EVENTS = "/v1/billing/meter_events"


class Wall:
    """The system's clock, which somebody sets."""

    def __init__(self) -> None:
        self.off = 0

    def ns(self) -> int:
        """Nanoseconds since 1970, if it were right."""
        return time.time_ns() + self.off * SECOND


def request(number: int) -> tuple[bytes, int]:
    """An export request of one span, and the second in which that ended: half a second ago by the true clock."""
    end = time.time_ns() - SECOND // 2
    attributes = http("/v1/chat/completions") | {"http.request.header.x-account-id": ["acme"]}
    return payload(span(attributes, number=number, start=end - SECOND, end=end)), end // SECOND


@pytest.mark.parametrize(
    "moves",
    [
        [-40 * DAY],
        [-2 * HOUR, -40 * DAY],
        [-40 * DAY, 40 * DAY],
        [HOUR, -HOUR],
        [HOUR, -2 * HOUR],
        [-MINUTE, -MINUTE, 3 * MINUTE, -MINUTE],
    ],
    ids=str,
)
async def test_a_clock_that_is_set_neither_misdates_nor_loses_nor_doubles(
    tmp_path: Path, moves: Sequence[int]
) -> None:
    """After each step there is new usage, all of the old comes again, and an answer of Stripe is lost."""
    wall = Wall()
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        config = minimal(
            tmp_path,
            stripe,
            exporters__stripe_meter__aggregation__window="1s",
            exporters__stripe_meter__retry_on_failure__initial_interval="50ms",
        )
        service = Service(config, clock=SteadyClock(wall.ns))
        try:
            await service.start()
            receiver = service.components[Kind.RECEIVER, "otlp"]
            sent: list[tuple[bytes, int]] = []
            for move in [0, *moves]:
                wall.off += move
                stripe.fault(EVENTS, Fault.RESET_AFTER, times=1)
                sent.append(request(len(sent) + 1))
                for body, _ended in sent:
                    assert (await post(receiver, body)).status == 200
                await stripe.wait_until(lambda: stripe.total("api_request", customer) == len(sent), timeout=15)
        finally:
            await service.stop()
        assert stripe.total("api_request", customer) == len(moves) + 1
        assert sorted(event.timestamp for event in stripe.accepted) == [ended for _body, ended in sent]
        assert stripe.violations == []


async def test_the_log_says_so(tmp_path: Path) -> None:
    """A clock that was set back is told once, with what to do, and once that it is right again."""
    wall = Wall()
    async with StripeDouble() as stripe:
        service = Service(minimal(tmp_path, stripe), summary_interval=0.001, clock=SteadyClock(wall.ns))
        with capture_logs() as logs:
            try:
                await service.start()
                wall.off = -HOUR
                await stripe.wait_until(lambda: "clock_set_back" in told(logs))
                wall.off = 0
                await stripe.wait_until(lambda: "clock_right_again" in told(logs))
            finally:
                await service.stop()
    assert [name for name in told(logs) if name.startswith("clock")] == ["clock_set_back", "clock_right_again"]


def told(logs: Sequence[object]) -> list[str]:
    """The names of the lines."""
    return [str(line["event"]) for line in logs if isinstance(line, dict)]
