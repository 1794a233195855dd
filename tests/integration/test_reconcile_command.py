"""`reconcile` as a command: verdict, table, JSON, repair, and a person's word about an event."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from billing import batch, billing, record
from compared import YESTERDAY, billed, config, past, sent, used
from ledgers import Book

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments
from otel_usageflow.ledger.correction import CorrectionState
from otel_usageflow.model.outcome import Accepted, Retry
from otel_usageflow.testing.stripe import Fault, StripeDouble


async def run(capsys: pytest.CaptureFixture[str], path: Path, *words: str) -> tuple[int, str, str]:
    """Run the command beside the double."""
    capsys.readouterr()  # what the service has logged
    status = await asyncio.to_thread(main, ["reconcile", "--config", str(path), *words])
    out, err = capsys.readouterr()
    return status, out, err


async def test_no_difference_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, and how much was compared with how many reads."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customers = {f"user-{n}": stripe.add_customer({"account_id": f"user-{n}"}) for n in range(3)}
        async with past(tmp_path, customers) as made:
            for user in customers:
                await billed(made, stripe, YESTERDAY + 3_600, 5, user)
        status, out, err = await run(capsys, config(tmp_path, stripe))
        assert (status, err) == (0, "")
        assert out.startswith("stripe_meter test: no difference in 3 customers and meters from ")
        assert stripe.reads("/v1/billing/meters/") <= 9


async def test_differences_are_told_with_cause_and_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 3; as a table for people, as JSON with decimal strings for machines."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            lost = await sent(made, await used(made, YESTERDAY + 5_000, 5), Accepted("req_2"))
        stripe.add_foreign("api_request", customer, "2.5", timestamp=YESTERDAY + 40_000)
        path = config(tmp_path, stripe)
        status, out, _ = await run(capsys, path)
        assert status == 3
        assert "lost: Stripe has less" in out
        assert "foreign: Stripe has more" in out
        status, out, _ = await run(capsys, path, "--format", "json", "--customer", customer)
        (book,) = json.loads(out)["books"]
        assert [(one["cause"], one["difference"], one["events"]) for one in book["differences"]] == [
            ("lost", "-5", [lost.identifier]),
            ("foreign", "2.5", []),
        ]
        status, out, _ = await run(capsys, path, "--customer", "cus_other")
        assert (status, "no meter events in this time" in out) == (0, True)


async def test_stripe_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 with what is wrong; not a verdict about half of it."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            await billed(made, stripe, YESTERDAY, 5)
        path = config(tmp_path, stripe)
        stripe.fault("/v1/billing/meters/", Fault.RESET_BEFORE, times=None)
        status, out, err = await run(capsys, path)
        assert (status, out) == (2, "")
        assert "Stripe cannot be read" in err


async def test_two_exporters_of_one_meter_are_not_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the other exporter has sent is not taken off as foreign."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            await billed(made, stripe, YESTERDAY, 5)
            await made.storage.ledger("stripe_meter/other test", 10).commit(batch(record(at=YESTERDAY)), YESTERDAY)
        stripe.add_foreign("api_request", customer, "2", timestamp=YESTERDAY + 40_000)
        status, _, err = await run(capsys, config(tmp_path, stripe), "--repair", "--yes")
        assert (status, "None of this can be mended" in err) == (3, True)


async def test_repair_makes_the_two_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was lost and what others sent is mended by corrections, once; then nothing differs."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            await billed(made, stripe, YESTERDAY + 60, 7)
            await sent(made, await used(made, YESTERDAY + 5_000, 5), Accepted("req_2"))
        stripe.add_foreign("api_request", customer, "2.5", timestamp=YESTERDAY + 40_000)
        path = config(tmp_path, stripe)
        status, _, err = await run(capsys, path, "--repair")
        assert (status, "add --yes" in err) == (1, True)
        status, _, err = await run(capsys, path, "--repair", "--yes")
        assert (status, "api_request" in err) == (0, True)
        status, _, err = await run(capsys, path, "--repair", "--yes")
        assert (status, "None of this can be mended" in err) == (3, True)
        async with billing(tmp_path, stripe):
            await stripe.wait_until(lambda: stripe.total("api_request", customer) == 12)
            adjustments = Adjustments(tmp_path)
            async with asyncio.timeout(20):
                while {one.state for one in adjustments.listed()} != {CorrectionState.BILLED}:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        status, out, _ = await run(capsys, path)
        assert (status, "no difference" in out) == (0, True)


async def _unknown(made: Book) -> str:
    event = await used(made, YESTERDAY, 5)
    await sent(made, event, Retry("connection reset", uncertain=True))
    (event,) = await made.ledger.unsettled(0, 10)
    await made.ledger.expire(event, event.timestamp + 90_000)
    return str(event.identifier)


async def test_a_person_decides_about_an_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a reason, an event of unknown outcome becomes counted, or is sent again under another identifier."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            identifier = await _unknown(made)
            path = config(tmp_path, stripe)
            status, _, err = await run(capsys, path, "--counted", identifier)
            assert (status, "--because" in err) == (1, True)
            status, out, _ = await run(capsys, path, "--not-counted", identifier, "--because", "not on the invoice")
            assert (status, f"{identifier}_r" in out) == (0, True)
            (again,) = await made.ledger.take_released(10)
            assert again.identifier.startswith(f"{identifier}_r")
            status, _, err = await run(capsys, path, "--counted", identifier, "--because", "x")
            assert (status, "only one whose outcome is unknown" in err) == (1, True)


async def test_the_last_hour_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Usage younger than an hour is not compared, and what was settled a moment ago is said to be left out."""
    now = time.time()
    async with StripeDouble() as stripe:
        stripe.settings.summary_lag = 3_000
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with past(tmp_path, {"acme": customer}) as made:
            event = await used(made, int(now) - 3 * 3_600, 5)
            await sent(made, event, Accepted(), late=now - event.timestamp)
            await sent(made, await used(made, int(now) - 60, 5), Accepted())
        status, out, _ = await run(capsys, config(tmp_path, stripe))
        assert (status, "no difference in 1 customers" in out, "1 hours left out" in out) == (0, True, True)
