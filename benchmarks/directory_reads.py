"""What an account that nobody uses reads of Stripe in a month, counted by the double.

    .venv/bin/python benchmarks/directory_reads.py

Thirty days of meters and customers pass on clocks of their own, a minute at a time; late reports, which are read
beside them, are added by what their rhythm says. Some ten minutes; --days 7 says nearly the same.
"""

import argparse
import asyncio
import datetime
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import structlog

from otel_usageflow.component import Context
from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.exporters.stripe_meter.account import Account
from otel_usageflow.exporters.stripe_meter.api import connect
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.customer_pages import Change, Customer
from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM
from otel_usageflow.extensions.sqlite_storage import SqliteStorage, SqliteStorageConfig
from otel_usageflow.model.usage import Terms
from otel_usageflow.testing.stripe import RateLimits, Settings, StripeDouble

DAY = 86_400
TERMS = Terms("chat", "api_request", "account_id")


class NoHealth:
    """Nobody asks."""

    def report(self, source: str, problem: str | None) -> None:
        """Take a report."""

    def problems(self) -> Mapping[str, str]:
        """None."""
        return {}


async def month(customers: int, refresh: timedelta, *, webhook: bool, days: int) -> Mapping[str, float]:
    """Reads by path, in thirty days."""
    passed = 0.0
    async with StripeDouble(settings=Settings(limits=RateLimits.off())) as stripe:
        stripe.add_meter("api_request")
        stripe.add_customers(customers, "account_id")
        values = {
            "api_key": stripe.api_key,
            "calls_per_second": 100_000,
            "endpoints": {"api": stripe.url},
            "sending_queue": {"storage": "s"},
        }
        with tempfile.TemporaryDirectory() as directory:
            context = Context(id="s", health=NoHealth(), extensions={})
            async with (
                SqliteStorage(SqliteStorageConfig(directory=Path(directory)), context) as storage,
                connect(StripeMeterConfig.model_validate(values)) as api,
            ):
                account = Account(
                    api,
                    storage.ledger("stripe_meter test", 10),
                    "",
                    [TERMS],
                    refresh,
                    Backoff(),
                    lambda: None,
                    stripe.clock.now,
                    lambda: passed,
                )
                await account.directory.load()
                if webhook:
                    account.directory.hint(Change("evt_1", stripe.clock.now(), Customer("cus_1", {})))
                for _ in range(days * DAY // 60):
                    await account.update()
                    passed += 60
                    stripe.clock.advance(60)
        reads = {path: count * 30 / days for path, count in stripe.account().reads.items()}
        return {**reads, "/v2/core/events": 30 * DAY / RHYTHM.reports_idle}


def main() -> None:
    """Count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=30)
    days = parser.parse_args().days
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, reads in 30 days, from {days} days")
    for customers, refresh, webhook in (
        (100, 10, False),
        (1_000, 10, False),
        (10_000, 10, False),
        (1_000, 60, False),
        (1_000, 1, False),
        (1_000, 10, True),
    ):
        reads = asyncio.run(month(customers, timedelta(minutes=refresh), webhook=webhook, days=days))
        parts = ", ".join(f"{path} {count:,.0f}" for path, count in sorted(reads.items()))
        how = " with a webhook" if webhook else ""
        print(f"{customers:,} customers, refresh {refresh}m{how}: {sum(reads.values()):,.0f}  ({parts})", flush=True)


if __name__ == "__main__":
    main()
