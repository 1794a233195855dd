"""What Stripe takes and then does not count: it is noticed, kept with Stripe's code, and sent again when released."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import stripe as stripe_package
from billing import billing, record, total
from looking_back import HOUR, RHYTHM, audited, clock_of, command, events, rows, states
from structlog.testing import capture_logs

from otel_usageflow.exporters.stripe_meter.reports import Reports
from otel_usageflow.extensions.sqlite_storage.file import transaction
from otel_usageflow.extensions.sqlite_storage.flow import event_steps
from otel_usageflow.model.usage import Terms
from otel_usageflow.testing.stripe import Fault, RateLimits, Settings, StripeDouble

EVENTS = "/v1/billing/meter_events"
CODE = "meter_event_invalid_value"


def _settings(**changes: Any) -> Settings:
    """A Stripe that answers 200 first."""
    settings = Settings(validation="asynchronous")
    settings.change(changes)
    return settings


async def _report_appears(stripe: StripeDouble) -> None:
    """Let the ten seconds of the report end, and the next reading of reports come."""
    stripe.clock.advance(700)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"report_request": "id_and_key"},
        {"report_list_data": True},
        {"reserve_rejected": False},
    ],
)
async def test_a_rejected_event_is_kept_and_sent_again_when_released(
    tmp_path: Path, settings: Mapping[str, Any]
) -> None:
    """It was acknowledged by Stripe, so only its report tells; the release sends it under another identifier."""
    async with StripeDouble(settings=_settings(**settings)) as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        stripe.reject("api_request", CODE)
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM) as running:
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            assert total(stripe, customer) == 0

            await _report_appears(stripe)
            await stripe.wait_until(lambda: states(tmp_path) == ["REFUSED"])
            (rejected,) = events(tmp_path)
            assert (rejected.reason, rejected.code) == ("rejected", CODE)
            assert audited(tmp_path) == ["rejected by Stripe"]

            with command(tmp_path) as connection, transaction(connection):
                event_steps.resend(connection, 1)
            await stripe.wait_until(lambda: total(stripe, customer) == 7)
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            assert events(tmp_path)[0].identifier == f"{rejected.identifier}_r1"

            await _report_appears(stripe)  # the report is still listed, and is about what was replaced
            await stripe.wait_until(lambda: _polls(stripe) >= 3)
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM):
            before = _polls(stripe)
            await stripe.wait_until(lambda: _polls(stripe) > before)
        assert states(tmp_path) == ["ACCEPTED"]
        assert total(stripe, customer) == 7
        assert rows(tmp_path, "SELECT state, reason FROM answers ORDER BY number") == [(2, None), (3, "rejected")]


@pytest.mark.parametrize(("reserved", "state", "counted"), [(True, "REFUSED", 0), (False, "ACCEPTED", 7)])
async def test_a_rejected_attempt_whose_answer_was_lost(
    tmp_path: Path, reserved: bool, state: str, counted: int
) -> None:
    """ "Exists already" about an event that was rejected does not make it billed; a new attempt that counts does."""
    async with StripeDouble(settings=_settings(reserve_rejected=reserved)) as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        stripe.reject("api_request", CODE)
        stripe.fault(EVENTS, Fault.ERROR_AFTER, times=1)
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM) as running:
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            assert rows(tmp_path, "SELECT duplicate FROM meter_events") == [(int(reserved),)]
            await _report_appears(stripe)
            await stripe.wait_until(lambda: _samples(tmp_path) == [True])
            assert states(tmp_path) == [state]
        assert total(stripe, customer) == counted


async def test_a_report_about_an_event_without_an_answer_waits(tmp_path: Path) -> None:
    """Its sample stays open, also over a restart, and is applied when the event has settled."""
    async with StripeDouble(settings=_settings()) as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        stripe.reject("api_request", CODE)
        clock = clock_of(stripe)
        stripe.fault(EVENTS, Fault.RESET_AFTER, times=1)
        outage = stripe.fault(EVENTS, Fault.RESET_BEFORE, times=None)
        async with billing(tmp_path, stripe, clock=clock, rhythm=RHYTHM) as running:
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: outage.fired >= 1)
            await _report_appears(stripe)
            await stripe.wait_until(lambda: _samples(tmp_path) == [False])
            assert states(tmp_path) == ["SENDING"]
        stripe.clear_faults()
        async with billing(tmp_path, stripe, clock=clock, rhythm=RHYTHM):
            await stripe.wait_until(lambda: states(tmp_path) == ["REFUSED"])
        assert _samples(tmp_path) == [True]
        assert total(stripe, customer) == 0


async def test_a_report_settles_an_unknown_outcome(tmp_path: Path) -> None:
    """An event that was set aside because nobody knew is certainly not counted once a report names it."""
    async with StripeDouble(settings=_settings(report_delay=31 * HOUR)) as stripe:
        stripe.add_meter("api_request")
        stripe.add_customer({"account_id": "acme"})
        stripe.reject("api_request", CODE)
        stripe.fault(EVENTS, Fault.RESET_AFTER, times=1)
        outage = stripe.fault(EVENTS, Fault.RESET_BEFORE, times=None)
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM) as running:
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: outage.fired >= 2)
            stripe.clock.advance(30.9 * HOUR)
            await stripe.wait_until(lambda: states(tmp_path) == ["UNKNOWN"])
            stripe.clock.advance(700)
            await stripe.wait_until(lambda: states(tmp_path) == ["REFUSED"])
            assert events(tmp_path)[0].code == CODE


async def test_errors_that_were_not_named_are_found_by_summaries(tmp_path: Path) -> None:
    """A report shows one of three errors: what is missing in the summaries is kept aside, what counts is not."""
    direct = Terms(policy="direct", event_name="api_request", metadata_field=None)
    async with StripeDouble(settings=_settings(report_samples=1)) as stripe:
        stripe.add_meter("api_request")
        bad, good = [stripe.add_customer() for _ in range(3)], [stripe.add_customer() for _ in range(2)]
        for customer in bad:
            stripe.reject("api_request", CODE, customer=customer)
        stripe.clock.advance(10 - stripe.clock.now() % 10 + 2)  # all in one of Stripe's ten seconds
        async with billing(tmp_path, stripe, (direct,), clock=clock_of(stripe), rhythm=RHYTHM) as running:
            at = stripe.clock.now() - 30
            await running.bill(
                *(record(customer, terms=direct, quantity=n, at=at) for n, customer in enumerate((*bad, *good), 3))
            )
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"] * 5)
            assert len(stripe.rejected) == 3
            await _report_appears(stripe)
            await stripe.wait_until(lambda: states(tmp_path).count("REFUSED") == 1)
            assert _open_reports(tmp_path) == 1
            stripe.clock.advance(1.1 * HOUR)
            await stripe.wait_until(lambda: states(tmp_path).count("REFUSED") == 3)
            await stripe.wait_until(lambda: _open_reports(tmp_path) == 0)
        refused = "SELECT customer FROM meter_events WHERE state = 3 AND reason = 'rejected' AND code = ?"
        assert {customer for (customer,) in rows(tmp_path, refused, CODE)} == set(bad)
        assert [total(stripe, customer) for customer in good] == [6, 7]


async def test_errors_that_cannot_be_found_stay_visible(tmp_path: Path) -> None:
    """Where another program's usage hides what is missing, nothing is guessed: the report stays open, and is told."""
    async with StripeDouble(settings=_settings(report_samples=0)) as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        stripe.reject("api_request", CODE)
        at = stripe.clock.now() - 60
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM) as running:
            await running.bill(record(quantity=7, at=at))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            stripe.add_foreign("api_request", customer, "5", timestamp=int(at))
            await _report_appears(stripe)
            await stripe.wait_until(lambda: _open_reports(tmp_path) == 1)
            with capture_logs() as logs:
                stripe.clock.advance(1.1 * HOUR)
                await stripe.wait_until(lambda: any(log["event"] == "error_report_not_resolved" for log in logs))
            measured = {one.name: one.value for one in await running.exporter.measure()}
            assert measured["otel_usageflow_error_reports_open"] == 1
        assert states(tmp_path) == ["ACCEPTED"]
        assert _open_reports(tmp_path) == 1


async def test_errors_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    """Other programs send events for the same meter: their errors are counted and change nothing of ours."""
    async with StripeDouble(settings=_settings()) as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        stripe.reject("api_request", CODE)
        await _send_by_another_program(stripe, customer)
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM) as running:
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            await _report_appears(stripe)
            await stripe.wait_until(lambda: _samples(tmp_path) == [True])
        assert states(tmp_path) == ["ACCEPTED"]
        assert rows(tmp_path, "SELECT errors, samples, ours FROM error_reports") == [(1, 1, 0)]
        assert audited(tmp_path) == []
        assert total(stripe, customer) == 7


async def test_an_event_without_a_meter_is_reported_without_one(tmp_path: Path) -> None:
    """`no_meter_found` names no meter; the sample still names the event."""
    async with StripeDouble(settings=_settings()) as stripe:
        stripe.add_meter("api_request")
        stripe.add_customer({"account_id": "acme"})
        stripe.reject("api_request", "no_meter")
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM) as running:
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            await _report_appears(stripe)
            await stripe.wait_until(lambda: states(tmp_path) == ["REFUSED"])
        assert events(tmp_path)[0].code == "no_meter"


async def test_reports_of_a_connected_account(tmp_path: Path) -> None:
    """Reports are read for each account, and a record sent by itself is found by the second in its identifier."""
    async with StripeDouble(settings=_settings()) as stripe:
        stripe.add_meter("api_request", account="acct_1")
        stripe.add_customer({"account_id": "acme"}, account="acct_1")
        stripe.reject("api_request", CODE, account="acct_1")
        options: dict[str, Any] = {"account": "acct_1", "aggregation": {"window": "0s"}}
        async with billing(tmp_path, stripe, clock=clock_of(stripe), rhythm=RHYTHM, **options) as running:
            await running.bill(record(quantity=7), record(quantity=2))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"] * 2)
            await _report_appears(stripe)
            await stripe.wait_until(lambda: sorted(states(tmp_path)) == ["ACCEPTED", "REFUSED"])


async def test_reports_are_read_page_by_page(tmp_path: Path) -> None:
    """More than a page of reports is read to the end, oldest first."""
    settings = _settings()
    settings.limits = RateLimits.off()
    async with StripeDouble(settings=settings) as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        stripe.reject("api_request", CODE, times=None)
        clock = clock_of(stripe)
        async with billing(tmp_path, stripe, clock=clock, rhythm=RHYTHM) as running:
            await running.bill(record(quantity=7))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
        for _ in range(120):
            stripe.clock.advance(10)
            await _send_by_another_program(stripe, customer)
        stripe.clock.advance(20)
        async with billing(tmp_path, stripe, clock=clock, rhythm=RHYTHM):
            await stripe.wait_until(lambda: _samples(tmp_path) == [True] * 121, timeout=30)
        assert states(tmp_path) == ["REFUSED"]


class Forbidden:
    """A Stripe that shows no events to this key."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def error_reports(self, _account: str, _since: str) -> AsyncIterator[list[Mapping[str, Any]]]:
        """Refuse."""
        self.asked.set()
        raise stripe_package.PermissionError("the key lacks rak_event_read", http_status=403)
        yield []


class NoReports:
    """A ledger that has read none."""

    async def report_cursor(self, _account: str) -> str | None:
        """Nothing yet."""
        return None

    async def apply_reports(self, _account: str, _now: float) -> tuple[list[Any], bool]:
        """Nothing to apply."""
        return [], False


async def test_a_key_that_may_not_read_events_is_said_once() -> None:
    """Without the permission nothing else stops: it is said once, with what it means and what to do."""
    now, api = [1_000.0], Forbidden()
    reports = Reports(api, NoReports(), "", dict, lambda: 0, lambda: now[0], RHYTHM)  # type: ignore[arg-type]
    assert not reports.are_read()
    with capture_logs() as logs:
        following = asyncio.create_task(reports.follow())
        async with asyncio.timeout(5):
            for _ in range(3):
                await api.asked.wait()
                api.asked.clear()
                now[0] += 700
        following.cancel()
    assert reports.are_read(), "what cannot be known is not waited for"
    assert [log["event"] for log in logs] == ["error_reports_forbidden"]
    assert "event_read" in logs[0]["remedy"]


async def _send_by_another_program(stripe: StripeDouble, customer: str) -> None:
    form = {
        "event_name": "api_request",
        "payload[stripe_customer_id]": customer,
        "payload[value]": "3",
    }
    headers = {"Authorization": f"Bearer {stripe.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(stripe.url + EVENTS, data=form) as said,
    ):
        assert said.status == 200


def _polls(stripe: StripeDouble) -> int:
    return sum(call.path == "/v2/core/events" for call in stripe.calls)


def _samples(directory: Path) -> list[bool]:
    """Whether each sample is settled."""
    return [settled is not None for (settled,) in rows(directory, "SELECT settled_at FROM error_samples")]


def _open_reports(directory: Path) -> int:
    return len(rows(directory, "SELECT 1 FROM error_reports WHERE settled_at IS NULL"))
