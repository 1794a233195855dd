"""Telling how a quantity that is summed over a trace came about, and what still waits for spans."""

import sqlite3
from dataclasses import replace

from otel_usageflow.extensions.sqlite_storage.flow import trace_rows
from otel_usageflow.extensions.sqlite_storage.flow.trace_rows import RequestState
from otel_usageflow.ledger.charge import trace_of
from otel_usageflow.ledger.explanation import ExplainedPart, ExplainedUsage
from otel_usageflow.ledger.report import Standing

_SECOND = 1_000_000_000


def how_many_wait(connection: sqlite3.Connection) -> int:
    """How many requests wait, in all books."""
    query = "SELECT count(*) FROM trace_requests WHERE due_ns IS NOT NULL AND state = ?"
    return int(connection.execute(query, (RequestState.WAITING,)).fetchone()[0])


def waiting(connection: sqlite3.Connection, trace_id: bytes) -> list[ExplainedUsage]:
    """The requests of a trace that wait for spans of it, in all books."""
    return [
        ExplainedUsage(
            trace_id=trace_id.hex(),
            span_id=row.span_id.hex(),
            policy=row.request.record.terms.policy,
            account=row.request.record.terms.account or "",
            event_name=row.request.record.terms.event_name,
            source=row.request.record.source,
            user=row.request.record.user,
            metadata_field=row.request.record.terms.metadata_field,
            quantity=None,
            ended_at=row.request.record.at_ns / _SECOND,
            standing=Standing.WAITING,
            reason=None,
            seen=row.request.record.seen,
            window=None,
            event=None,
            waits_until=row.due_ns / _SECOND,
        )
        for number in trace_rows.numbers_of(connection, trace_id)
        for row in trace_rows.requests(connection, number)
        if row.state is RequestState.WAITING and row.due_ns is not None
    ]


def with_parts(connection: sqlite3.Connection, usage: ExplainedUsage, key: bytes) -> ExplainedUsage:
    """The usage of a charge, with the spans that its quantity was summed from, if it was."""
    trace_id, span_id = trace_of(key)
    meter_id = int.from_bytes(key[28:], "big")
    for number in trace_rows.numbers_of(connection, trace_id):
        parts = [
            part
            for part in trace_rows.parts(connection, number)
            if part.meter_id == meter_id and (part.key == key or (part.request == span_id and not part.key))
        ]
        if parts:
            spans = {span.span_id: dict(span.amounts) for span in trace_rows.spans(connection, number)}
            made_of = tuple(
                ExplainedPart(part.span_id.hex(), name, spans.get(part.span_id, {}).get(name))
                for part in parts
                for name in part.names
            )
            late = next((part.request.hex() for part in parts if part.key == key), None)
            return replace(usage, made_of=made_of, late_for=late)
    return usage
