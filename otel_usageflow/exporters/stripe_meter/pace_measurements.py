"""What `/metrics` shows of the pace of each account: see docs/pacing.md."""

from collections.abc import Mapping

from otel_usageflow.component import Measurement
from otel_usageflow.delivery.pace import Pace
from otel_usageflow.model.outcome import TooFast


def paces(exporter: str, by_account: Mapping[str, Pace]) -> list[Measurement]:
    """How fast each account may be called now, what was read from it, and how often it said that it is too much."""
    named = [(pace, {"exporter": exporter, "account": name or "own"}) for name, pace in by_account.items()]
    reads = [
        Measurement(
            "otel_usageflow_stripe_reads_total",
            "counter",
            pace.reads,
            "Calls to Stripe that count against the account's allocation of reads.",
            labels,
        )
        for pace, labels in named
    ]
    rates = [
        Measurement(
            "otel_usageflow_stripe_pace",
            "gauge",
            pace.rate,
            "Calls for meter events, or events of the stream, that an account may be sent in a second now.",
            labels,
        )
        for pace, labels in named
    ]
    limited = [
        Measurement(
            "otel_usageflow_stripe_rate_limited_total",
            "counter",
            pace.refusals.get(why, 0),
            "Answers with status 429, by what there was too much of.",
            {**labels, "reason": why.value},
        )
        for pace, labels in named
        for why in TooFast
    ]
    return [*reads, *rates, *limited]
