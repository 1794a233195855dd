"""Events of unknown outcome are settled by the meter's summaries, and never by a guess."""

from pathlib import Path
from typing import Any

import pytest
from billing import Billing, billing, record, total
from looking_back import HOUR, RHYTHM, audited, clock_of, command, events, rows, states

from otel_usageflow.errors import UsageError
from otel_usageflow.extensions.sqlite_storage.doubt.doubts import decide
from otel_usageflow.testing.stripe import Fault, StripeDouble

EVENTS = "/v1/billing/meter_events"
DAY = 24 * HOUR
ALONE: dict[str, Any] = {"reconcile": {"interval": "0s"}}
"""The comparison of everything with Stripe reads summaries, too."""


async def _bill_into_an_outage(
    stripe: StripeDouble, running: Billing, directory: Path, fault: Fault, *quantities: int, at: float | None = None
) -> None:
    """Bill; the first attempt ends with a reset, and then Stripe cannot be reached for 30 hours."""
    stripe.fault(EVENTS, fault, times=1)
    rule = stripe.fault(EVENTS, Fault.RESET_BEFORE, times=None)
    await running.bill(*(record(quantity=quantity, at=at) for quantity in quantities))
    await stripe.wait_until(lambda: rule.fired >= 2)
    stripe.clock.advance(30 * HOUR)
    await stripe.wait_until(lambda: states(directory) == ["UNKNOWN"])
    stripe.clear_faults()


@pytest.mark.parametrize(("fault", "resent"), [(Fault.RESET_AFTER, 0), (Fault.RESET_BEFORE, 1)])
async def test_an_outage_of_30_hours_after_a_reset(tmp_path: Path, fault: Fault, resent: int) -> None:
    """Behind or before processing: nothing is billed twice, nothing is lost, in the end everything is billed."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **ALONE) as running:
            await _bill_into_an_outage(stripe, running, tmp_path, fault, 7)
            await running.bill(record(quantity=2, at=stripe.clock.now()))
            await stripe.wait_until(lambda: states(tmp_path) == ["UNKNOWN", "ACCEPTED"])
            assert _reads(stripe) == 0, "summaries may be late"

            stripe.clock.advance(1.1 * HOUR)
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED", "ACCEPTED"])
            assert total(stripe, customer) == 9
        assert len(stripe.accepted) == 2
        assert events(tmp_path)[0].identifier.endswith("_r1") == bool(resent)
        assert audited(tmp_path) == ["found not counted" if resent else "found counted"]
        evidence = "SELECT after ->> 'summary', after ->> 'known' FROM audit WHERE action LIKE 'found%'"
        assert rows(tmp_path, evidence) == [("0" if resent else "7", "0")]
        assert stripe.violations == []


async def test_it_is_settled_after_a_restart_too(tmp_path: Path) -> None:
    """What was found out late does not depend on the process that began it."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        clock = clock_of(stripe)
        async with billing(tmp_path, stripe, clock=clock, rhythm=RHYTHM, **ALONE) as running:
            await _bill_into_an_outage(stripe, running, tmp_path, Fault.RESET_BEFORE, 7)
        stripe.clock.advance(2 * HOUR)
        async with billing(tmp_path, stripe, clock=clock, rhythm=RHYTHM, **ALONE):
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
        assert total(stripe, customer) == 7


async def test_usage_of_other_programs_leaves_it_unknown(tmp_path: Path) -> None:
    """A summary that nothing of ours explains decides nothing, until somebody does."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        clock, at = clock_of(stripe), stripe.clock.now()
        async with billing(tmp_path, stripe, clock=clock, rhythm=RHYTHM, **ALONE) as running:
            await _bill_into_an_outage(stripe, running, tmp_path, Fault.RESET_AFTER, 7, at=at)
            stripe.add_foreign("api_request", customer, "5", timestamp=int(at))
            stripe.clock.advance(2 * HOUR)
            await stripe.wait_until(lambda: _reads(stripe) == 1)
            stripe.clock.advance(DAY)
            await stripe.wait_until(lambda: _reads(stripe) == 2)
            (event,) = events(tmp_path)
            assert event.state.name == "UNKNOWN"

            with pytest.raises(UsageError, match="no meter event has"), command(tmp_path) as connection:
                decide(connection, f"{event.identifier}_r9", counted=True, actor="ann", why="", now=clock())
            with command(tmp_path) as connection:
                name = decide(connection, event.identifier, counted=True, actor="ann", why="their log", now=clock())
            assert name == event.identifier
            assert states(tmp_path) == ["ACCEPTED"]
            with (
                pytest.raises(UsageError, match="only one whose outcome is unknown"),
                command(tmp_path) as connection,
            ):
                decide(connection, event.identifier, counted=False, actor="bob", why="no", now=clock())
            assert audited(tmp_path) == ["found counted"]
        assert total(stripe, customer) == 12


async def test_a_person_may_say_that_it_was_not_counted(tmp_path: Path) -> None:
    """Then it is sent again by the running service, under another identifier, and the audit log says who said so."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        clock = clock_of(stripe)
        async with billing(tmp_path, stripe, clock=clock, rhythm=RHYTHM, **ALONE) as running:
            await _bill_into_an_outage(stripe, running, tmp_path, Fault.RESET_BEFORE, 7)
            (event,) = events(tmp_path)
            with command(tmp_path) as connection:
                name = decide(connection, event.identifier, counted=False, actor="ann", why="asked", now=clock())
            assert name == f"{event.identifier}_r1"
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
        assert total(stripe, customer) == 7
        assert rows(tmp_path, "SELECT actor, why FROM audit WHERE action = 'found not counted'") == [("ann", "asked")]


async def test_what_is_too_old_to_send_again_is_kept(tmp_path: Path) -> None:
    """Stripe takes no usage older than 35 days: what was not counted until then is kept as `too_old`."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **ALONE) as running:
            await _bill_into_an_outage(stripe, running, tmp_path, Fault.RESET_BEFORE, 7)
            with stripe.outage():
                stripe.clock.advance(36 * DAY)
            await stripe.wait_until(lambda: states(tmp_path) == ["REFUSED"])
            assert events(tmp_path)[0].reason == "too_old"
        assert total(stripe, customer) == 0
        assert audited(tmp_path) == ["found not counted"]


async def test_a_refusal_that_does_not_say_what_became_of_it(tmp_path: Path) -> None:
    """An event is not asked about while its summary may be late; once it is, the summary decides."""
    async with StripeDouble() as stripe:
        stripe.settings.summary_lag = 0.9 * HOUR
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **ALONE) as running:
            # The first attempt is counted, its answer is lost; then the meter is switched off, and Stripe says no.
            stripe.fault(EVENTS, Fault.ERROR_AFTER, times=1)
            outage = stripe.fault(EVENTS, Fault.RESET_BEFORE, times=None)
            await running.bill(record(quantity=3))
            await stripe.wait_until(lambda: outage.fired >= 1)
            stripe.deactivate_meter("api_request")
            stripe.clear_faults()
            await stripe.wait_until(lambda: states(tmp_path) == ["UNKNOWN"])
            stripe.clock.advance(0.5 * HOUR)
            await stripe.wait_until(lambda: _polls(stripe) >= 2)
            assert _reads(stripe) == 0
            stripe.clock.advance(0.6 * HOUR)
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
        assert total(stripe, customer) == 3


@pytest.mark.parametrize(("formula", "quantities"), [("count", (1, 1)), ("last", (4,))])
async def test_other_formulas(tmp_path: Path, formula: str, quantities: tuple[int, ...]) -> None:
    """Meters that count, and meters that keep the last value, tell what was counted as well."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", formula=formula)
        customer = stripe.add_customer({"account_id": "acme"})
        at = stripe.clock.now() - stripe.clock.now() % 60 - 30
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **ALONE) as running:
            stripe.fault(EVENTS, Fault.RESET_AFTER, times=1)
            rule = stripe.fault(EVENTS, Fault.RESET_BEFORE, times=None)
            await running.bill(*(record(quantity=quantity, at=at) for quantity in quantities))
            await stripe.wait_until(lambda: rule.fired >= 2)
            stripe.clock.advance(30 * HOUR)
            stripe.clear_faults()
            await stripe.wait_until(lambda: "UNKNOWN" in states(tmp_path) and "SENDING" not in states(tmp_path))
            await stripe.wait_until(lambda: set(states(tmp_path)) <= {"UNKNOWN", "ACCEPTED"})
            stripe.clock.advance(1.1 * HOUR)
            await stripe.wait_until(lambda: set(states(tmp_path)) == {"ACCEPTED"})
        assert total(stripe, customer) == (len(quantities) if formula == "count" else 4)


def _reads(stripe: StripeDouble) -> int:
    """How often the summary of a minute was read; comparing everything with Stripe reads days first."""
    forms = [dict(call.form) for call in stripe.calls if call.path.endswith("/event_summaries")]
    return sum(int(form["end_time"]) - int(form["start_time"]) == 60 for form in forms)


def _polls(stripe: StripeDouble) -> int:
    return sum(call.path == "/v2/core/events" for call in stripe.calls)
