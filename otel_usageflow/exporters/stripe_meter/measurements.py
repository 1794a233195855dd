"""What the exporter shows of itself on `/metrics`."""

from collections.abc import Mapping

from otel_usageflow.component import Measurement

OUTCOMES = ("accepted", "duplicate", "retried", "refused", "set_aside")
"""What the sender counts: see docs/metrics.md."""


def attempts(exporter: str, counts: Mapping[str, int]) -> list[Measurement]:
    """What became of attempts to send meter events since the start, by outcome; 0 where there was none."""
    return [
        Measurement(
            "otel_usageflow_meter_events_total",
            "counter",
            counts.get(outcome, 0),
            "Attempts to send a meter event to Stripe, by what became of them.",
            {"exporter": exporter, "outcome": outcome},
        )
        for outcome in dict.fromkeys((*OUTCOMES, *counts))
    ]
