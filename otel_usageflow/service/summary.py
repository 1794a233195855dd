"""What the service has counted since it last said so."""

from collections import Counter

from otel_usageflow.model.usage import UsageBatch


class UsageSummary:
    """Adds up batches whose usage is durable. A batch that a client sends again counts again."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._quarantined: Counter[str] = Counter()

    def add(self, batch: UsageBatch) -> None:
        """Count one batch."""
        reasons = Counter(record.reason for record in batch.records)
        self._counts["spans"] += batch.spans
        self._counts["requests"] += batch.requests
        self._counts["billed_records"] += reasons.pop(None, 0)
        self._counts["unmatched"] += batch.unmatched
        self._counts["unbilled"] += batch.unbilled.total()
        self._counts["malformed"] += batch.malformed
        self._quarantined.update({str(reason): count for reason, count in reasons.items()})

    def take(self) -> dict[str, object] | None:
        """All counts since the last call, or None when there was no traffic."""
        if not self._counts.total():
            return None
        counts: dict[str, object] = dict(self._counts)
        counts["quarantined"] = dict(sorted(self._quarantined.items()))
        self._counts.clear()
        self._quarantined.clear()
        return counts
