"""`make stripe-live` itself, against the double: it asks and tells all that it should, and leaves nothing behind."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_usageflow.testing.stripe import RateLimits, Settings, StripeDouble

TESTS = Path(__file__).parents[1]
KEY = "sk_test_of_the_script"
RESTRICTED = "rk_test_of_the_script"


async def start(**environment: str) -> asyncio.subprocess.Process:
    """Run the script with this environment and none of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STRIPE_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(TESTS / "live" / "run.py"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**kept, "PYTHONPATH": str(TESTS / "support"), "PYTHONUNBUFFERED": "1", **environment},
    )


async def run(**environment: str) -> tuple[int, str]:
    """Exit status and output."""
    process = await start(**environment)
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def leftovers(stripe: StripeDouble, account: str | None = None) -> tuple[list[str], list[str]]:
    """Meters that are active, and customers that are not deleted, after the script."""
    state = stripe.account(account)
    meters: Any = state.meters.list({"status": "active", "limit": 100})
    customers: Any = state.customers.list({"limit": 100})
    return [meter["id"] for meter in meters["data"]], [customer["id"] for customer in customers["data"]]


async def test_without_a_key_it_is_skipped() -> None:
    """The reason is said, and it is no failure."""
    assert await run() == (
        0,
        "skipped: STRIPE_TEST_KEY is not set; give it a key of a sandbox (sk_test_... or rk_test_...)\n",
    )


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"STRIPE_TEST_KEY": "sk_live_secret"}, "STRIPE_TEST_KEY is not a test key"),
        (
            {"STRIPE_TEST_KEY": KEY, "STRIPE_TEST_RESTRICTED_KEY": "rk_live_secret"},
            "RESTRICTED_KEY is not a test key",
        ),
        ({"STRIPE_TEST_KEY": KEY, "STRIPE_LIVE_ENDPOINT": "https://elsewhere.example"}, "on this machine only"),
    ],
)
async def test_what_it_refuses(environment: dict[str, str], words: str) -> None:
    """A live key is never used, a key is sent nowhere else, and none is printed."""
    status, out = await run(**environment)
    assert (status, words in out) == (1, True)
    assert "secret" not in out


@pytest.mark.parametrize("validation", ["synchronous", "asynchronous"])
async def test_the_whole_run(validation: str) -> None:
    """Every check holds against the double, every question is answered, and nothing is left."""
    settings = Settings(validation=validation, limits=RateLimits.sandbox())  # type: ignore[arg-type]
    async with StripeDouble(
        [KEY, RESTRICTED], permissions={RESTRICTED: {"customer_read"}}, settings=settings
    ) as stripe:
        status, out = await run(
            STRIPE_TEST_KEY=KEY,
            STRIPE_TEST_RESTRICTED_KEY=RESTRICTED,
            STRIPE_TEST_CONNECTED_ACCOUNT="acct_live_script",
            STRIPE_LIVE_ENDPOINT=stripe.url,
            STRIPE_LIVE_PATIENCE="30",
        )
        assert (status, "FAILED" in out) == (0, False), out
        assert "ok:      25 requests of each customer are what Stripe counts" in out
        for question in (
            "v1, the same identifier under another idempotency key: 400",
            "scope of an identifier",
            "v1, decimal values: 200, 200, 200",
            "stream: 101 events: 400",
            "cancelling what there never was: 400",
            "end_time of summaries: exclusive",
            "unknown customers: " + ("taken, and reported" if validation == "asynchronous" else "refused at once"),
            "headers of a 429: {'stripe-rate-limited-reason': ",
            "stream: a session for a connected account: 200",
            "restricted key, GET /v1/billing/meters: 403",
        ):
            assert f"settles: {question}" in out, question
        assert leftovers(stripe) == ([], [])
        assert leftovers(stripe, "acct_live_script") == ([], [])
        assert KEY not in out
        assert RESTRICTED not in out


async def test_ctrl_c() -> None:
    """An interrupted run takes away what it has made."""
    async with StripeDouble(KEY, settings=Settings(summary_lag=3600)) as stripe:
        process = await start(STRIPE_TEST_KEY=KEY, STRIPE_LIVE_ENDPOINT=stripe.url, STRIPE_LIVE_PATIENCE="60")
        await stripe.wait_until(lambda: any("event_summaries" in call.path for call in stripe.calls), timeout=30)
        assert leftovers(stripe) != ([], [])
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
        assert process.returncode == 1
        assert b"interrupted" in out
        assert leftovers(stripe) == ([], [])
