"""What the service has counted since it started, and since it last said so in the log.

Batches count when their usage is durable. A batch that a client sends again counts again: these are figures of the
traffic, the ledger has those of the bill.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from otel_usageflow.component import Measurement
from otel_usageflow.errors import ConsumeError, InvalidData, Unavailable
from otel_usageflow.model.usage import Reason, UsageBatch

_REFUSALS: dict[type[ConsumeError], str] = {InvalidData: "invalid_data", Unavailable: "unavailable"}
Key = TypeVar("Key")
_SEEN_BY_POLICIES = (Reason.NO_USER, Reason.BAD_QUANTITY)


@dataclass(slots=True)
class _Traffic:
    """The counts of one pipeline."""

    spans: int = 0
    requests: int = 0
    unmatched: int = 0
    malformed: int = 0
    billable: Counter[str] = field(default_factory=Counter)
    """Policy -> records."""
    waiting: Counter[str] = field(default_factory=Counter)
    """Policy -> requests whose quantity is not known before their trace is complete."""
    unbilled: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(policy, rule) -> requests."""
    quarantined: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(policy, reason) -> records."""
    failed_conditions: Counter[str] = field(default_factory=Counter)
    """Policy -> requests."""
    cut_short: Counter[str] = field(default_factory=Counter)
    """Policy -> records without a user whose spans lost attributes on the way."""
    redacted: Counter[str] = field(default_factory=Counter)
    """Policy -> records without a user, with a placeholder in its place."""
    others_policies: Counter[str] = field(default_factory=Counter)
    """Policy with an account -> requests that fit it and came with the token of another account."""
    refused: Counter[str] = field(default_factory=Counter)
    """Reason -> calls."""


class UsageSummary:
    """Adds up what pipelines did."""

    def __init__(self) -> None:
        self._traffic: dict[str, _Traffic] = {}
        self._told: Counter[str] = Counter()
        self._told_quarantined: Counter[str] = Counter()

    def expect(self, pipeline: str, policies: Iterable[str]) -> None:
        """Let the counts that this pipeline and its policies can have begin at 0, so that the first step shows."""
        traffic = self._of(pipeline)
        traffic.refused.update(dict.fromkeys(("unavailable", "invalid_data", "internal_error"), 0))
        for policy in policies:
            traffic.billable[policy] += 0
            traffic.unbilled[policy, "status"] += 0
            traffic.failed_conditions[policy] += 0
            traffic.cut_short[policy] += 0
            traffic.redacted[policy] += 0
            traffic.others_policies[policy] += 0
            traffic.waiting[policy] += 0
            for reason in _SEEN_BY_POLICIES:
                traffic.quarantined[policy, reason.value] += 0

    def add(self, pipeline: str, batch: UsageBatch) -> None:
        """Count one batch."""
        traffic = self._of(pipeline)
        traffic.spans += batch.spans
        traffic.requests += batch.requests
        traffic.unmatched += batch.unmatched
        traffic.malformed += batch.malformed
        _add(traffic.unbilled, batch.unbilled)
        _add(traffic.failed_conditions, batch.failed_conditions)
        _add(traffic.others_policies, batch.others_policies)
        _add(traffic.cut_short, batch.cut_short)
        _add(traffic.redacted, batch.redacted)
        billable, quarantined = traffic.billable, traffic.quarantined
        for record in batch.records:
            if record.reason is None:
                billable[record.terms.policy] += 1
            else:
                quarantined[record.terms.policy, record.reason.value] += 1
        for request in batch.trace_requests:
            record = request.record
            if record.reason is None:
                traffic.waiting[record.terms.policy] += 1
            else:
                quarantined[record.terms.policy, record.reason.value] += 1

    def refuse(self, pipeline: str, error: Exception) -> None:
        """Count one call of which nothing was taken."""
        reason = _REFUSALS.get(type(error), "other") if isinstance(error, ConsumeError) else "internal_error"
        self._of(pipeline).refused[reason] += 1

    def take(self) -> dict[str, object] | None:
        """All counts since the last call, or None when there was no traffic."""
        now, quarantined = self._totals()
        since = {name: count - self._told[name] for name, count in now.items()}
        held = quarantined - self._told_quarantined
        self._told, self._told_quarantined = now, quarantined
        if not any(since.values()) and not held:
            return None
        return {**since, "quarantined": dict(sorted(held.items()))}

    def measurements(self) -> list[Measurement]:
        """All counts since the start."""
        made: list[Measurement] = []
        for pipeline, traffic in self._traffic.items():
            made += _measured(pipeline, traffic)
        return made

    def _of(self, pipeline: str) -> _Traffic:
        if pipeline not in self._traffic:
            self._traffic[pipeline] = _Traffic()
        return self._traffic[pipeline]

    def _totals(self) -> tuple[Counter[str], Counter[str]]:
        counts: Counter[str] = Counter()
        quarantined: Counter[str] = Counter()
        for traffic in self._traffic.values():
            counts["spans"] += traffic.spans
            counts["requests"] += traffic.requests
            counts["billed_records"] += traffic.billable.total()
            counts["unmatched"] += traffic.unmatched
            counts["unbilled"] += traffic.unbilled.total()
            counts["malformed"] += traffic.malformed
            counts["failed_conditions"] += traffic.failed_conditions.total()
            if others := traffic.others_policies.total():
                counts["other_account"] += others
            if waiting := traffic.waiting.total():
                counts["waiting_for_trace"] += waiting
            for (_policy, reason), count in traffic.quarantined.items():
                quarantined[reason] += count
        return counts, quarantined


def _add(counts: Counter[Key], more: Mapping[Key, int]) -> None:
    for key, count in more.items():
        counts[key] += count


def _measured(pipeline: str, traffic: _Traffic) -> Sequence[Measurement]:
    def count(name: str, value: int, text: str, **labels: str) -> Measurement:
        return Measurement(f"otel_usageflow_{name}_total", "counter", value, text, {"pipeline": pipeline, **labels})

    return [
        count("spans", traffic.spans, "Spans taken."),
        count(
            "requests",
            traffic.requests,
            "Requests among the spans: HTTP, and gRPC calls where policies ask.",
        ),
        count("unmatched_requests", traffic.unmatched, "Requests that no policy is about."),
        count(
            "malformed_spans", traffic.malformed, "Spans without a valid trace or span id, which cannot be billed."
        ),
        *(
            count("billable_records", number, "Usage records that were handed on to be billed.", policy=policy)
            for policy, number in traffic.billable.items()
        ),
        *(
            count(
                "trace_requests",
                number,
                "Requests that wait for the spans of their trace, and are billed when those are there.",
                policy=policy,
            )
            for policy, number in traffic.waiting.items()
        ),
        *(
            count("unbilled_requests", number, "Requests that a policy's rule keeps free.", policy=policy, rule=rule)
            for (policy, rule), number in traffic.unbilled.items()
        ),
        *(
            count("failed_conditions", number, "Requests about which a policy's condition failed.", policy=policy)
            for policy, number in traffic.failed_conditions.items()
        ),
        *(
            count(
                "other_account_requests",
                number,
                "Requests that fit a policy with an account, and came with an ingest token of another account.",
                policy=policy,
            )
            for policy, number in traffic.others_policies.items()
        ),
        *(
            count(
                "cut_short_records",
                number,
                "Usage records without a user whose spans say that attributes were dropped.",
                policy=policy,
            )
            for policy, number in traffic.cut_short.items()
        ),
        *(
            count(
                "redacted_records",
                number,
                "Usage records without a user whose spans have a placeholder such as [REDACTED] in its place.",
                policy=policy,
            )
            for policy, number in traffic.redacted.items()
        ),
        *(
            count(
                "quarantined_records",
                number,
                "Usage records that could not be billed as they came, and were kept.",
                policy=policy,
                reason=reason,
            )
            for (policy, reason), number in traffic.quarantined.items()
        ),
        *(
            count("refused_calls", number, "Calls of which nothing was taken.", reason=reason)
            for reason, number in traffic.refused.items()
        ),
    ]
