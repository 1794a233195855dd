"""What the stream took and Stripe then did not count: a report names the batch, and the event is found."""

from pathlib import Path
from typing import Any

import pytest
from billing import billing, record, total
from looking_back import RHYTHM, clock_of, events, rows, states

from otel_usageflow.testing.stripe import Fault, Settings, StripeDouble

STREAM = "/v2/billing/meter_event_stream"
ON: dict[str, Any] = {"api": "v2_stream"}
CODE = "meter_event_invalid_value"


def double(**changes: object) -> StripeDouble:
    """A double with one meter."""
    settings = Settings()
    settings.change(changes)
    stripe = StripeDouble(settings=settings)
    stripe.add_meter("api_request")
    return stripe


def refused(directory: Path) -> list[str | None]:
    """The codes of refused events."""
    return [event.code for event in events(directory) if event.state.name == "REFUSED"]


async def appears(stripe: StripeDouble) -> None:
    """Let the ten seconds of the report end, and the next reading of reports come."""
    stripe.clock.advance(700)


async def test_a_batch_of_one_names_its_event(tmp_path: Path) -> None:
    """The report's key is the batch's, and the batch has one event: that one is not counted."""
    async with double() as stripe:
        stripe.add_customer({"account_id": "acme"})
        stripe.reject("api_request", CODE)
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **ON) as running:
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            await appears(stripe)
            await stripe.wait_until(lambda: states(tmp_path) == ["REFUSED"])
        assert refused(tmp_path) == [CODE]


async def test_a_message_that_tells_the_customer_names_the_event(tmp_path: Path) -> None:
    """A batch has one event for each event name and customer, so the customer tells which of them is meant."""
    async with double() as stripe:
        customers = [stripe.add_customer({"account_id": f"user-{n}"}) for n in range(4)]
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **ON) as running:
            await running.bill(record("user-0"))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            stripe.delete_customer(customers[2])
            await running.bill(*(record(f"user-{n}", quantity=n + 1) for n in range(4)))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"] * 5)
            assert rows(tmp_path, "SELECT json_array_length(events) FROM stream_batches") == [(1,), (4,)]
            await appears(stripe)
            await stripe.wait_until(lambda: refused(tmp_path) == ["meter_event_customer_not_found"])
        (one,) = [event for event in events(tmp_path) if event.state.name == "REFUSED"]
        assert one.value == "3"
        assert rows(tmp_path, "SELECT count(*) FROM report_suspects") == [(0,)]


async def test_an_error_of_a_batch_that_names_nobody_is_found_by_summaries(tmp_path: Path) -> None:
    """Only the events of that batch are suspected; the summaries of their customers tell which of them is missing."""
    async with double() as stripe:
        customers = [stripe.add_customer({"account_id": f"user-{n}"}) for n in range(5)]
        options: dict[str, Any] = {**ON, "reconcile": {"interval": "0s"}}
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **options) as running:
            await running.bill(*(record(f"user-{n}", quantity=n + 1) for n in (3, 4)))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"] * 2)
            stripe.reject("api_request", CODE, customer=customers[1])
            await running.bill(*(record(f"user-{n}", quantity=n + 1) for n in range(3)))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"] * 5)
            await appears(stripe)
            await stripe.wait_until(lambda: rows(tmp_path, "SELECT samples FROM error_reports") == [(0,)])
            assert len(rows(tmp_path, "SELECT event_id FROM report_suspects")) == 3
            assert refused(tmp_path) == []
            stripe.clock.advance(4_000)
            await stripe.wait_until(lambda: refused(tmp_path) == [CODE], timeout=20)
            await stripe.wait_until(lambda: rows(tmp_path, "SELECT settled_at FROM error_reports") != [(None,)])
        (one,) = [event for event in events(tmp_path) if event.state.name == "REFUSED"]
        assert one.value == "2"
        assert stripe.reads("/v1/billing/meters/*/event_summaries") <= 3


async def test_as_many_errors_as_events_are_all_of_them(tmp_path: Path) -> None:
    """A report with an error for each event of the batch leaves nothing to be found out."""
    async with double() as stripe:
        for n in range(3):
            stripe.add_customer({"account_id": f"user-{n}"})
        stripe.reject("api_request", CODE, times=None)
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **ON) as running:
            await running.bill(*(record(f"user-{n}") for n in range(3)))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"] * 3)
            await appears(stripe)
            await stripe.wait_until(lambda: states(tmp_path) == ["REFUSED"] * 3)
        assert stripe.reads("/v1/billing/meters/*/event_summaries") == 0


@pytest.mark.parametrize(("reserved", "state", "counted"), [(True, "REFUSED", 0), (False, "ACCEPTED", 7)])
async def test_a_rejected_attempt_whose_answer_was_lost(
    tmp_path: Path, reserved: bool, state: str, counted: int
) -> None:
    """The stream's second yes does not say which attempt counts, if any does: the summary tells."""
    async with double(reserve_rejected=reserved) as stripe:
        customer = stripe.add_customer({"account_id": "acme"})
        stripe.reject("api_request", CODE)
        stripe.fault(STREAM, Fault.RESET_AFTER, times=1)
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **ON) as running:
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            assert total(stripe, customer) == counted
            await appears(stripe)
            await stripe.wait_until(
                lambda: rows(tmp_path, "SELECT settled_at FROM error_samples") not in ([], [(None,)])
            )
            stripe.clock.advance(4_000)
            await stripe.wait_until(lambda: rows(tmp_path, "SELECT settled_at FROM error_reports") != [(None,)], 20)
            await stripe.wait_until(lambda: states(tmp_path) == [state])
        assert total(stripe, customer) == counted


async def test_a_report_about_a_batch_without_an_answer_waits(tmp_path: Path) -> None:
    """What is still under way is neither rejected nor overlooked; it is when it has its answer."""
    async with double() as stripe:
        stripe.add_customer({"account_id": "acme"})
        stripe.reject("api_request", CODE)
        struck = stripe.fault(STREAM, Fault.HANG_AFTER, times=None)
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, timeout="300ms", **ON) as running:
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: struck.fired >= 1 and states(tmp_path) == ["SENDING"])
            await appears(stripe)
            await stripe.wait_until(lambda: bool(rows(tmp_path, "SELECT 1 FROM error_samples")))
            assert states(tmp_path) == ["SENDING"]
            stripe.clear_faults()
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            stripe.clock.advance(4_000)
            await stripe.wait_until(lambda: states(tmp_path) == ["REFUSED"], 20)


async def test_a_batch_of_another_ledger_is_left_alone(tmp_path: Path) -> None:
    """A key that looks like ours and is not names nothing here."""
    first, second = tmp_path / "first", tmp_path / "second"
    async with double() as stripe:
        stripe.add_customer({"account_id": "acme"})
        stripe.add_customer({"account_id": "other"})
        async with billing(first, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **ON) as running:
            await running.bill(record())
            await stripe.wait_until(lambda: states(first) == ["ACCEPTED"])
            stripe.reject("api_request", CODE)
            async with billing(second, stripe, clock=clock_of(stripe), **ON) as there:
                await there.bill(record("other"))
                await stripe.wait_until(lambda: states(second) == ["ACCEPTED"])
            await appears(stripe)
            await stripe.wait_until(lambda: bool(rows(first, "SELECT 1 FROM error_reports")))
        assert states(first) == ["ACCEPTED"]
        assert rows(first, "SELECT ours, settled_at IS NULL FROM error_reports") == [(0, 0)]
