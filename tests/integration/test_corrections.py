"""Corrections against the double: what was billed too much is taken off once, whatever Stripe answers."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from billing import CHAT, Billing, billing, record, total
from compared import YESTERDAY, config, past, sent
from compared import used as earlier

from otel_usageflow.cli import main
from otel_usageflow.errors import UsageError
from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM
from otel_usageflow.extensions.sqlite_storage.correction.adjust import Asked, Asker
from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.correction import SETTLED, Correction, CorrectionState
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.outcome import Accepted, Outcome, Refused, Retry
from otel_usageflow.model.usage import Quantity, Reason
from otel_usageflow.testing.stripe import Fault, StripeDouble

ADJUSTMENTS = "/v1/billing/meter_event_adjustments"
IMPATIENT = replace(RHYTHM, tick=0.05, look=0.1, summary_delay=0.2)
HOURS_25 = 25 * 3_600


@asynccontextmanager
async def ready(stripe: StripeDouble, formula: str = "sum") -> AsyncIterator[str]:
    """A meter and a customer."""
    stripe.add_meter("api_request", formula)
    yield stripe.add_customer({"account_id": "acme"})
    assert stripe.violations == []


async def used(running: Billing, stripe: StripeDouble, quantity: Quantity = 5, **more: Any) -> str:
    """Usage that is billed; the identifier of its meter event."""
    before = len(stripe.accepted)
    await running.bill(record(quantity=quantity, **more))
    await stripe.wait_until(lambda: len(stripe.accepted) > before)
    identifier = stripe.accepted[-1].identifier
    await _until(lambda: _accepted(running, identifier))
    return identifier


def _accepted(running: Billing, identifier: str) -> bool:
    with open_reader(Path(running.storage.where).parent) as reader:
        found = reader.explain_event(identifier)
    return found is not None and found[0].state == "accepted"


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  (another process may change it)
            await asyncio.sleep(0.05)


async def ask(directory: Path, identifier: str, quantity: Quantity | None = None, **more: Any) -> Asked:
    """Ask for a correction, as the command does."""
    asker = Asker("tester", "a test", time.time(), **more)
    return await asyncio.to_thread(Adjustments(directory).correct_event, identifier, quantity, asker)


async def settled(directory: Path, asked: Asked) -> list[Correction]:
    """Wait until a correction is carried out."""
    found: list[Correction] = []

    def done() -> bool:
        found[:] = Adjustments(directory).listed(asked.numbers)
        return all(one.state in SETTLED for one in found)

    await _until(done)
    return found


async def _called(stripe: StripeDouble) -> None:
    """Wait until Stripe was asked to cancel."""
    await stripe.wait_until(lambda: any(ADJUSTMENTS in call.path for call in stripe.calls))


def later(seconds: float) -> SteadyClock:
    """The service's clock, so much later."""
    return SteadyClock(wall=lambda: time.time_ns() + int(seconds * 1e9))


FAULTS = [
    None,
    Fault.RESET_BEFORE,
    Fault.RESET_AFTER,
    Fault.ERROR_BEFORE,
    Fault.ERROR_STORED,
    Fault.ERROR_AFTER,
    Fault.UNAVAILABLE,
    Fault.RATE_LIMITED,
    Fault.MALFORMED,
    Fault.SLOW_AFTER,
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_whole_event_is_cancelled_once(tmp_path: Path, fault: Fault | None) -> None:
    """Within a day Stripe cancels it; whatever goes wrong, it is taken off once and no other event is made."""
    async with StripeDouble() as stripe, ready(stripe) as customer:
        stripe.settings.adjustment_status = "pending" if fault is None else "complete"
        async with billing(tmp_path, stripe, rhythm=IMPATIENT) as running:
            await used(running, stripe, 7)
            identifier = await used(running, stripe, 5)
            if fault is not None:
                stripe.fault(ADJUSTMENTS, fault, times=2)
            (found,) = await settled(tmp_path, await ask(tmp_path, identifier))
        assert found.state is CorrectionState.CANCELLED
        assert [event.identifier for event in stripe.cancelled] == [identifier]
        assert (total(stripe, customer), len(stripe.accepted)) == (7, 2)


async def test_after_a_day_a_negative_event_takes_it_off(tmp_path: Path) -> None:
    """It has the time and the further keys of what it corrects, and makes the sum right."""
    async with StripeDouble() as stripe, ready(stripe) as customer:
        async with billing(tmp_path, stripe) as running:
            identifier = await used(running, stripe, Decimal("2.5"), payload=(("model", "x"),))
        stripe.clock.advance(HOURS_25)
        async with billing(tmp_path, stripe, clock=later(HOURS_25)):
            (found,) = await settled(tmp_path, await ask(tmp_path, identifier))
        first, second = stripe.accepted
        assert found.state is CorrectionState.BILLED
        assert (second.value_text, second.timestamp, second.payload["model"]) == ("-2.5", first.timestamp, "x")
        assert (total(stripe, customer), stripe.cancelled) == (0, [])


@pytest.mark.parametrize("fault", FAULTS[1:])
async def test_a_part_is_told_once(tmp_path: Path, fault: Fault) -> None:
    """A correction by a quantity is a meter event like all others: sent until it is counted, once."""
    async with StripeDouble() as stripe, ready(stripe) as customer:
        async with billing(tmp_path, stripe, rhythm=IMPATIENT) as running:
            identifier = await used(running, stripe, 5)
            stripe.fault("/v1/billing/meter_events", fault, times=2)
            (found,) = await settled(tmp_path, await ask(tmp_path, identifier, -3))
        assert found.state is CorrectionState.BILLED
        assert total(stripe, customer) == 2


async def test_an_outage_of_a_day_in_the_middle_of_a_cancellation(tmp_path: Path) -> None:
    """Nobody knows whether it got through: the summary decides, and then it is taken off once."""
    for fault, expected in (
        (Fault.RESET_AFTER, CorrectionState.CANCELLED),
        (Fault.RESET_BEFORE, CorrectionState.BILLED),
    ):
        directory = tmp_path / fault
        async with StripeDouble() as stripe, ready(stripe) as customer:
            async with billing(directory, stripe, rhythm=IMPATIENT) as running:
                identifier = await used(running, stripe, 5)
                stripe.fault(ADJUSTMENTS, fault)
                stripe.fault(ADJUSTMENTS, Fault.RESET_BEFORE, times=None)
                asked = await ask(directory, identifier)
                await _called(stripe)
            stripe.clear_faults()
            stripe.clock.advance(HOURS_25)
            async with billing(directory, stripe, clock=later(HOURS_25), rhythm=IMPATIENT):
                (found,) = await settled(directory, asked)
            assert found.state is expected
            assert total(stripe, customer) == 0


async def test_an_event_that_stripe_does_not_know_is_not_taken_off_twice(tmp_path: Path) -> None:
    """Stripe lost the event and refuses to cancel it: its summary shows that there is nothing to take off."""
    async with StripeDouble() as stripe, ready(stripe) as customer:
        async with billing(tmp_path, stripe, rhythm=IMPATIENT) as running:
            await used(running, stripe, 7)
            identifier = await used(running, stripe, 5)
            stripe.lose(identifier=identifier, forget=True)
            (found,) = await settled(tmp_path, await ask(tmp_path, identifier))
        assert found.state is CorrectionState.CANCELLED
        assert total(stripe, customer) == 7


@pytest.mark.parametrize("formula", ["count", "last"])
async def test_a_meter_that_does_not_sum(tmp_path: Path, formula: str) -> None:
    """Within a day it is cancelled; after that there is only a note of what to credit by hand."""
    async with StripeDouble() as stripe, ready(stripe, formula) as customer:
        async with billing(tmp_path, stripe) as running:
            identifier = await used(running, stripe, 1)
            other = await used(running, stripe, 1)
            (found,) = await settled(tmp_path, await ask(tmp_path, identifier))
            assert found.state is CorrectionState.CANCELLED
        stripe.clock.advance(HOURS_25)
        async with billing(tmp_path, stripe, clock=later(HOURS_25)):
            (found,) = await settled(tmp_path, await ask(tmp_path, other))
        assert found.state is CorrectionState.BY_HAND
        assert f"to customer {customer} by hand" in str(found.message)
        assert total(stripe, customer) == 1


async def test_corrections_of_corrections(tmp_path: Path) -> None:
    """A correction is an event that can be corrected; undoing all takes off what is left, and not more."""
    async with StripeDouble() as stripe, ready(stripe) as customer, billing(tmp_path, stripe) as running:
        identifier = await used(running, stripe, 10)
        (part,) = await settled(tmp_path, await ask(tmp_path, identifier, -3))
        assert total(stripe, customer) == 7
        assert part.event_identifier is not None
        (undone,) = await settled(tmp_path, await ask(tmp_path, part.event_identifier))
        assert (undone.state, total(stripe, customer)) == (CorrectionState.CANCELLED, 10)
        await settled(tmp_path, await ask(tmp_path, identifier, -4))
        (whole,) = await settled(tmp_path, await ask(tmp_path, identifier))
        assert (whole.quantity, whole.state) == (-6, CorrectionState.BILLED)
        assert total(stripe, customer) == 0
        with pytest.raises(UsageError, match=f"undone already, by correction {whole.number}"):
            await ask(tmp_path, identifier)
        with pytest.raises(UsageError, match="undone as a whole"):
            await ask(tmp_path, identifier, -1)


async def test_the_same_twice_and_too_much(tmp_path: Path) -> None:
    """The same correction is refused unless it is meant, and one that takes off more than was billed warns."""
    async with StripeDouble() as stripe, ready(stripe) as customer:
        async with billing(tmp_path, stripe) as running:
            identifier = await used(running, stripe, 5)
            first = await ask(tmp_path, identifier, -3)
            with pytest.raises(UsageError, match=f"asked for before, as correction {first.numbers[0]}"):
                await ask(tmp_path, identifier, -3)
            second = await ask(tmp_path, identifier, -3, again=True)
            assert "more than the event billed: -1" in second.warnings[0]
            await settled(tmp_path, first)
            await settled(tmp_path, second)
        assert total(stripe, customer) == -1


async def test_a_split_amount_is_undone_as_a_whole(tmp_path: Path) -> None:
    """An amount that was told in several events is undone in all of them."""
    async with StripeDouble() as stripe, ready(stripe) as customer:
        async with billing(tmp_path, stripe) as running:
            await running.bill(record(quantity=Decimal("123456789012.123456789")))
            await stripe.wait_until(lambda: len(stripe.accepted) == 2)
            first = stripe.accepted[0].identifier
            await _until(lambda: all(_accepted(running, event.identifier) for event in stripe.accepted))
            found = await settled(tmp_path, await ask(tmp_path, first))
        assert [one.state for one in found] == [CorrectionState.CANCELLED] * 2
        assert total(stripe, customer) == 0


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (None, "no answer of Stripe yet"),
        (Refused(Reason.REJECTED, "no"), "Stripe refused it"),
        (Refused(Reason.REJECTED, "no", uncertain=True), "nobody knows whether Stripe has counted it"),
        (Refused(Reason.NO_METER, "no"), "what it covered waits again"),
        (Retry("not now"), "not been sent yet"),
    ],
)
async def test_what_is_not_billed_is_not_corrected(tmp_path: Path, outcome: Outcome | None, why: str) -> None:
    """An event that has no yes of Stripe is refused, with the reason."""
    async with past(tmp_path, {"acme": "cus_1"}) as made:
        event = await sent(made, await earlier(made, YESTERDAY, 5), outcome)
        with pytest.raises(UsageError, match=why):
            await ask(tmp_path, event.identifier)


async def test_what_cannot_be_corrected_at_all(tmp_path: Path) -> None:
    """An event that nobody knows, a quantity of 0, and one that Stripe does not take."""
    async with past(tmp_path, {"acme": "cus_1"}) as made:
        event = await sent(made, await earlier(made, YESTERDAY, 5), Accepted())
        for identifier, quantity, why in (
            ("uf_s9999_" + 40 * "0", None, "no meter event has the identifier uf_s9999"),
            (event.identifier, 1234567890123456, "15 significant digits"),
            (event.identifier, 0, "0 corrects nothing"),
        ):
            with pytest.raises(UsageError, match=why):
                await ask(tmp_path, identifier, quantity)


async def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs a reason, finds the customer of a user, waits for what becomes of it, and lists."""
    async with StripeDouble() as stripe, ready(stripe) as customer:
        async with billing(tmp_path, stripe, terms=(CHAT,)) as running:
            identifier = await used(running, stripe, 5)
            file = str(config(tmp_path, stripe))

            async def run(*words: str) -> tuple[int, str, str]:
                status = await asyncio.to_thread(main, ["usage", "adjust", "--config", file, *words])
                out, err = capsys.readouterr()
                said = [
                    line for line in out.splitlines() if not re.match(r"\d{4}-", line)
                ]  # without the service's log
                return status, "\n".join(said), err

            status, _, err = await run("--event", identifier)
            assert (status, "--because" in err) == (1, True)
            moment = str(stripe.accepted[0].timestamp)
            at = ("--event-name", "api_request", "--at", moment, "--quantity", "-2", "--because", "test")
            status, out, err = await run("--user", "acme", *at, "--format", "json")
            (one,) = json.loads(out)["corrections"]
            assert (status, one["state"], one["quantity"], one["customer"]) == (0, "billed", "-2", customer)
            assert total(stripe, customer) == 3
            status, _, err = await run("--user", "nobody", *at)
            assert (status, "no customer" in err) == (1, True)
            status, out, err = await run("--event", identifier, "--because", "load test")
            assert (status, "cancelled" in out) == (0, True)
            status, out, _ = await run("--list", "--format", "json")
            assert [one["state"] for one in json.loads(out)["corrections"]] == ["billed", "cancelled"]
        assert total(stripe, customer) == -2
        status = await asyncio.to_thread(
            main, ["usage", "adjust", "--config", file, "--user", "acme", *at[:-2], "--again", "--because", "x"]
        )
        assert (status, "when the service runs" in capsys.readouterr().err) == (0, True)
    assert await asyncio.to_thread(main, ["ledger", "verify", "--config", file]) == 0
