"""What tests of reconciling and corrections share: a ledger of the past, and a double that has counted the same."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import yaml
from billing import batch, record
from ledgers import Book, book

from otel_usageflow.exporters.stripe_meter.api import connect
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.reconcile import Compared, Comparer, meters_of
from otel_usageflow.exporters.stripe_meter.summaries import ReadPace, Summaries
from otel_usageflow.extensions.sqlite_storage.doubt.reconcile import SqliteSums
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.ledger.reconcile import Only, Pair, stretches
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Outcome
from otel_usageflow.model.usage import Quantity
from otel_usageflow.testing.stripe import StripeDouble

T = TypeVar("T")

BOOK = "stripe_meter test"
DAY = 86_400
YESTERDAY = int(time.time()) // DAY * DAY - DAY
"""00:00 UTC of the last day that is over."""


@asynccontextmanager
async def past(directory: Path, customers: dict[str, str]) -> AsyncIterator[Book]:
    """A ledger whose directory is complete: user -> customer."""
    async with book(directory, window=1) as made:
        await made.list_customers(customers)
        yield made


async def used(made: Book, at: int, quantity: Quantity, user: str = "acme") -> MeterEvent:
    """Usage that was frozen a few seconds after it happened, into an event of its own."""
    await made.commit(batch(record(user, at=at, quantity=quantity)), at + 1)
    (event,) = await made.freeze(at + 5)
    return event


async def sent(made: Book, event: MeterEvent, outcome: Outcome | None = None, *, late: float = 6) -> MeterEvent:
    """An attempt was made and answered, `late` seconds after the usage."""
    await made.ledger.begin([event], event.timestamp + late)
    if outcome is not None:
        await made.ledger.settle(event, outcome, event.timestamp + late)
    return event


async def billed(made: Book, stripe: StripeDouble, at: int, quantity: Quantity, user: str = "acme") -> MeterEvent:
    """Usage that Stripe has accepted and counted."""
    event = await sent(made, await used(made, at, quantity, user), Accepted("req_1"))
    count(stripe, event)
    return event


def count(stripe: StripeDouble, event: MeterEvent) -> None:
    """Let the double count an event as it was sent."""
    stripe.add_foreign(event.event_name, event.customer, event.value, timestamp=event.timestamp)


def config(directory: Path, stripe: StripeDouble) -> Path:
    """A configuration file for commands on the ledger in `directory`."""
    values = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": "127.0.0.1:0"}}}},
        "processors": {
            "usage_policy": {
                "policies": [
                    {
                        "name": "chat",
                        "endpoint": "POST /v1/chat",
                        "user": {"header": "x-account-id"},
                        "customer": {"metadata_field": "account_id"},
                        "event_name": "api_request",
                    }
                ]
            }
        },
        "exporters": {
            "stripe_meter": {
                "api_key": stripe.api_key,
                "endpoints": {"api": stripe.url, "meter_events": stripe.url, "connect": stripe.url},
                "aggregation": {"window": "1s", "max_window": "60s"},
                "retry_on_failure": {"initial_interval": "20ms", "max_interval": "200ms"},
                "sending_queue": {"storage": "sqlite_storage"},
                "timeout": "2s",
            }
        },
        "extensions": {"sqlite_storage": {"directory": str(directory)}},
        "service": {
            "extensions": ["sqlite_storage"],
            "pipelines": {
                "traces": {"receivers": ["otlp"], "processors": ["usage_policy"], "exporters": ["stripe_meter"]}
            },
        },
    }
    path = directory / "usageflow.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def sums_of(directory: Path, name: str = BOOK) -> SqliteSums:
    """The ledger's side of a comparison."""

    async def look(read: Callable[..., T]) -> T:
        with closing(open_for_reading(directory)) as connection:
            return read(connection)

    return SqliteSums(look, look, name)


async def compare(
    directory: Path, stripe: StripeDouble, pair: Pair, since: int, until: int, now: float | None = None
) -> tuple[Compared, int]:
    """Compare one pair; what came of it, and the reads that it took."""
    settings = StripeMeterConfig.model_validate(
        {
            "api_key": stripe.api_key,
            "endpoints": {"api": stripe.url},
            "sending_queue": {"storage": "sqlite_storage"},
            "retry_on_failure": {"initial_interval": "20ms", "max_interval": "200ms"},
        }
    )
    sums = sums_of(directory)
    async with connect(settings) as api:
        summaries = Summaries(api, ReadPace(per_second=1000, per_hour=100_000))
        comparer = Comparer(sums, summaries, lambda: now or time.time(), settings.retry_on_failure.backoff)
        meters = meters_of(pair, await api.meters(pair.account))
        expected = {
            stretch: (await sums.tallies(stretch, Only(*pair))).get(pair, {}) for stretch in stretches(since, until)
        }
        return await comparer.compare(pair, meters, expected), comparer.reads
