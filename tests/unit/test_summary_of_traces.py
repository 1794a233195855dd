"""What the service counts of requests that wait for their trace."""

from otel_usageflow.model.usage import Reason, Terms, TraceRequest, UsageBatch, UsageRecord
from otel_usageflow.service.summary import UsageSummary

TERMS = Terms("chat", "tokens", "account_id", quantity=None)


def waiting(user: str | None) -> TraceRequest:
    """A request whose quantity is summed over its trace."""
    reason = None if user else Reason.NO_USER
    return TraceRequest(UsageRecord(b"t" * 16, b"s" * 8, 1, 1, TERMS, user, None, None, reason=reason), ("n",), 5)


def test_waiting_requests_are_counted_as_such() -> None:
    """They are no billable records yet; one without a user is quarantined whatever its trace holds."""
    summary = UsageSummary()
    summary.expect("traces", ["chat"])
    summary.add("traces", UsageBatch(trace_requests=[waiting("acme"), waiting("acme"), waiting(None)], requests=3))
    said = summary.take()
    assert said is not None
    assert (said["waiting_for_trace"], said["billed_records"], said["quarantined"]) == (2, 0, {"no_user": 1})
    values = {
        (one.name, one.labels.get("reason")): one.value for one in summary.measurements() if "policy" in one.labels
    }
    assert values["otel_usageflow_trace_requests_total", None] == 2
    assert values["otel_usageflow_billable_records_total", None] == 0
    assert values["otel_usageflow_quarantined_records_total", "no_user"] == 1


def test_nothing_is_said_of_traces_where_no_policy_sums_them() -> None:
    """The line of the log does not grow for those who do not use it."""
    summary = UsageSummary()
    summary.add("traces", UsageBatch(requests=1, spans=1))
    said = summary.take()
    assert said is not None
    assert "waiting_for_trace" not in said
