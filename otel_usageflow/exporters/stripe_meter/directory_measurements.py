"""What the exporter shows on `/metrics` of its customer directories, and of the webhook."""

from collections.abc import Collection, Mapping

from otel_usageflow.component import Measurement
from otel_usageflow.exporters.stripe_meter.directory import Directory


def directories(exporter: str, found: Collection[Directory]) -> list[Measurement]:
    """All directories of an exporter together."""
    running = [one.listing.running for one in found]
    ages = [age for one in found if (age := one.changes_seen) is not None]
    values = (
        (
            "otel_usageflow_customers_listed",
            "gauge",
            sum(one.listing.customers for one in found),
            "Customers that the last complete listing of each account has shown.",
        ),
        (
            "otel_usageflow_customer_listings_running",
            "gauge",
            sum(one is not None for one in running),
            "Accounts of which all customers are being listed.",
        ),
        (
            "otel_usageflow_customer_listing_progress",
            "gauge",
            sum(one.listed for one in running if one is not None),
            "Customers that the listings which are running have shown so far.",
        ),
        (
            "otel_usageflow_customer_listing_pages_total",
            "counter",
            sum(one.listing.pages for one in found),
            "Pages of customers that were read.",
        ),
        (
            "otel_usageflow_customer_changes_age_seconds",
            "gauge",
            max(ages, default=0.0),
            "How long ago changes of customers were looked for, of the account where that is longest ago.",
        ),
    )
    labels = {"exporter": exporter}
    return [Measurement(name, kind, value, text, labels) for name, kind, value, text in values]  # type: ignore[arg-type]


def deliveries(exporter: str, outcomes: Collection[str], counts: Mapping[str, int]) -> list[Measurement]:
    """Deliveries to the webhook since the start, by what became of them; 0 where there was none."""
    return [
        Measurement(
            "otel_usageflow_webhook_deliveries_total",
            "counter",
            counts.get(outcome, 0),
            "Deliveries of Stripe to the webhook, by what became of them.",
            {"exporter": exporter, "outcome": outcome},
        )
        for outcome in outcomes
    ]
