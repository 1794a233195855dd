"""The command beside a service that runs: what it releases is taken up at once, and Stripe counts it once."""

import asyncio
import time
from pathlib import Path

from billing import batch, billing, record, total
from ledgers import book
from quarantine_command import nothing_is_wrong, quarantine

from otel_usageflow.model.outcome import Refused
from otel_usageflow.model.usage import Reason
from otel_usageflow.testing.stripe import StripeDouble


async def test_what_is_released_while_the_service_runs_is_counted_once(tmp_path: Path) -> None:
    """A refused event and requests without a user are released under a load of the same spans, twice over."""
    ledger = tmp_path / "ledger"
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        now = time.time()
        refused = record(at=now - 300, quantity=1_000)
        async with book(ledger, window=1) as open_book:
            await open_book.list_customers({"acme": customer})
            await open_book.commit(batch(refused), now)
            (event,) = await open_book.freeze(now)
            await open_book.ledger.begin([event], now)
            await open_book.ledger.settle(event, Refused(Reason.REJECTED, "no"), now)
        nobody = [record(None, reason=Reason.NO_USER, at=now - 200 + n % 60) for n in range(300)]
        async with billing(ledger, stripe) as running:
            await running.bill(*nobody)

            async def release() -> None:
                for _ in range(2):
                    named = ("--policy", "chat", "--as-user", "acme", "--yes")
                    assert await asyncio.to_thread(quarantine, ledger, "release", *named) == 0

            async def send_again() -> None:
                for one in nobody:
                    await running.bill(one, one._replace(user="acme", reason=None), refused)

            await asyncio.gather(release(), send_again())
            await stripe.wait_until(lambda: total(stripe, customer) == 1_300, timeout=20)
            await running.bill(*(one._replace(user="acme", reason=None) for one in nobody))
            await running.bill(record(quantity=1))
            await stripe.wait_until(lambda: total(stripe, customer) == 1_301, timeout=20)
        assert stripe.violations == []
    nothing_is_wrong(ledger)
