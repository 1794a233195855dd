"""What the exporter shows of itself on `/metrics`."""

from collections.abc import Mapping

from otel_usageflow.component import Measurement
from otel_usageflow.delivery.batches import BATCH, SINGLE, Calls
from otel_usageflow.ledger.reconcile import ComparedState

_WAYS = {"v1": SINGLE, "v2_stream": BATCH}
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


def calls(exporter: str, made: Mapping[str, Calls]) -> list[Measurement]:
    """The calls that carried meter events since the start, and how many they carried; 0 where there was none."""
    none = Calls()
    by_api = {api: made.get(way, none) for api, way in _WAYS.items()}
    return [
        Measurement(name, "counter", value(of), text, {"exporter": exporter, "api": api})
        for name, value, text in (
            ("otel_usageflow_meter_event_calls_total", _calls, "Calls to Stripe that carried meter events."),
            ("otel_usageflow_meter_event_call_events_total", _events, "Meter events in those calls."),
        )
        for api, of in by_api.items()
    ]


def _calls(of: Calls) -> int:
    return of.calls


def _events(of: Calls) -> int:
    return of.events


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


def reconciliation(exporter: str, state: ComparedState, waits: float) -> list[Measurement]:
    """How the ledger compared with Stripe when it was last looked at, and how long usage waits to be sent."""
    labels = {"exporter": exporter}
    return [
        Measurement(
            "otel_usageflow_reconcile_last_run_timestamp_seconds",
            "gauge",
            state.at,
            "When the ledger was last compared with Stripe's summaries, in unix time; 0 for never.",
            labels,
        ),
        Measurement(
            "otel_usageflow_reconcile_pairs",
            "gauge",
            state.pairs,
            "Customers and meters that have been compared with Stripe's summaries.",
            labels,
        ),
        Measurement(
            "otel_usageflow_reconcile_differences",
            "gauge",
            state.different,
            "Customers and meters that differed from Stripe's summaries when they were last compared.",
            labels,
        ),
        Measurement(
            "otel_usageflow_oldest_unsent_usage_age_seconds",
            "gauge",
            waits,
            "How long ago the oldest usage ended that waits to be sent to Stripe, or for its answer; 0 if none does.",
            labels,
        ),
    ]


def traces(exporter: str, waiting: int, late: int, unclaimed: int) -> list[Measurement]:
    """Requests that are billed by their local trace."""
    labels = {"exporter": exporter}
    return [
        Measurement(
            "otel_usageflow_trace_requests_waiting",
            "gauge",
            waiting,
            "Requests that wait for spans of their trace before they are billed.",
            labels,
        ),
        Measurement(
            "otel_usageflow_trace_spans_late_total",
            "counter",
            late,
            "Spans that came after their request was billed, and are usage of their own.",
            labels,
        ),
        Measurement(
            "otel_usageflow_trace_spans_unclaimed_total",
            "counter",
            unclaimed,
            "Spans that hold a number which is summed, and belong to no request that is billed by its trace.",
            labels,
        ),
    ]
