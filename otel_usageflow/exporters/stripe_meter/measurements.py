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


def doubts(exporter: str, unknown: int, open_reports: int) -> list[Measurement]:
    """What is not settled now: events of unknown outcome, and error reports that could not be joined to events."""
    labels = {"exporter": exporter}
    return [
        Measurement(
            "otel_usageflow_meter_events_unknown",
            "gauge",
            unknown,
            "Meter events that may or may not be counted, until summaries or somebody can tell.",
            labels,
        ),
        Measurement(
            "otel_usageflow_error_reports_open",
            "gauge",
            open_reports,
            "Error reports of Stripe that name only some of the events that were not counted.",
            labels,
        ),
    ]
