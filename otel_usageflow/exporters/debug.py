"""The exporter `debug`: writes to the log what would be billed, and keeps nothing.

One line a batch. With `verbosity: detailed` also a line for each record, which names no user; the user stands in a
second line at debug level, unless it was found where keys and tokens are.
"""

from collections import Counter
from enum import StrEnum
from typing import Self

import structlog

from otel_usageflow.component import Change, Context, Factory, Kind
from otel_usageflow.config.types import ConfigModel
from otel_usageflow.model.usage import Terms, UsageBatch, UsageRecord

_log = structlog.get_logger()

_SECRET_PLACES = ("key", "token", "authorization", "cookie", "secret", "password")


class Verbosity(StrEnum):
    """The Collector's three words."""

    BASIC = "basic"
    NORMAL = "normal"
    DETAILED = "detailed"


class DebugConfig(ConfigModel):
    """`exporters: debug:`."""

    verbosity: Verbosity = Verbosity.BASIC
    """`basic`: counts of each batch; `normal`: also by policy; `detailed`: also each record."""


class DebugExporter:
    """Logs usage. It takes over no responsibility: what only it has seen is gone."""

    def __init__(self, config: DebugConfig, context: Context) -> None:
        self._verbosity = config.verbosity
        self._log = _log.bind(exporter=context.id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def expect(self, terms: tuple[Terms, ...]) -> Change:
        """Other policies are nothing to prepare for."""
        return Change()

    async def export(self, batch: UsageBatch) -> None:
        """Write the batch to the log."""
        waiting = [request.record for request in batch.trace_requests]
        every = [*batch.records, *waiting]
        reasons = Counter(str(record.reason) for record in every if record.reason is not None)
        traced = {"waiting": len(waiting), "trace_spans": len(batch.trace_spans)} if batch.trace_spans else {}
        self._log.info(
            "usage",
            spans=batch.spans,
            requests=batch.requests,
            records=len(batch.records),
            quarantined=dict(sorted(reasons.items())),
            unbilled=batch.unbilled.total(),
            unmatched=batch.unmatched,
            malformed=batch.malformed,
            **traced,
        )
        if self._verbosity is Verbosity.BASIC:
            return
        known, unknown = Counter(map(_meter, batch.records)), Counter(map(_meter, waiting))
        for policy, event_name in sorted({*known, *unknown}):
            meter = (policy, event_name)
            traced = {"waiting": unknown[meter]} if unknown[meter] else {}
            self._log.info("usage of a policy", policy=policy, event_name=event_name, records=known[meter], **traced)
        if self._verbosity is Verbosity.DETAILED:
            self._write_all(batch)

    def _write_all(self, batch: UsageBatch) -> None:
        for record in batch.records:
            self._write(record)
        for request in batch.trace_requests:
            self._write(request.record, waits_for=list(request.keys))
        for span in batch.trace_spans:
            if span.amounts:
                self._log.info(
                    "part of a trace",
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex(),
                    amounts={name: None if amount is None else str(amount) for name, amount in span.amounts},
                )

    def _write(self, record: UsageRecord, **more: object) -> None:
        span = {"trace_id": record.trace_id.hex(), "span_id": record.span_id.hex()}
        self._log.info(
            "usage record",
            **span,
            policy=record.terms.policy,
            event_name=record.terms.event_name,
            at_ns=record.at_ns,
            quantity=None if record.quantity is None else str(record.quantity),
            source=record.source,
            payload=[key for key, _ in record.payload],
            reason=None if record.reason is None else str(record.reason),
            seen=list(record.seen),
            **more,
        )
        if record.user is not None and not may_be_secret(record.source):
            self._log.debug("usage record's user", **span, user=record.user)


def _meter(record: UsageRecord) -> tuple[str, str]:
    return record.terms.policy, record.terms.event_name


def may_be_secret(source: str | None) -> bool:
    """Whether a user that was found there may be a key or a token; when in doubt, yes."""
    return source is None or any(word in source.lower() for word in _SECRET_PLACES)


FACTORY = Factory(kind=Kind.EXPORTER, name="debug", config=DebugConfig, build=DebugExporter)
