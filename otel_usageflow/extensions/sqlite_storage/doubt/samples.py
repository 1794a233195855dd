"""What the samples of a report are about: an event of ours, one of several that went in one call, or neither."""

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from otel_usageflow.extensions.sqlite_storage.doubt.verdicts import event_named
from otel_usageflow.extensions.sqlite_storage.flow import batches
from otel_usageflow.ledger.batch import meant
from otel_usageflow.ledger.doubt import ErrorReport, ErrorSample
from otel_usageflow.ledger.identifier import batch_of, of_idempotency_key

_NOT_OURS = 0
"""Stands for the event of a sample that this ledger has not sent."""


class Taken(NamedTuple):
    """What became of a report's samples: how many are about events of ours, and how many of those name none."""

    ours: int
    unnamed: int


def take(connection: sqlite3.Connection, account_id: int, report: ErrorReport, now: float) -> Taken:
    """Write down which events the samples name; they stay open until that is applied.

    Where a sample names a call with several events, and not the event, those that it can mean are written down
    instead, if the report shows all of its errors: then no other is suspected.
    """
    ours = unnamed = 0
    suspects: set[int] = set()
    by_call: dict[str, list[str]] = {}
    for sample in report.samples:
        if batch_of(sample.key) is not None:
            by_call.setdefault(sample.key, []).append(sample.message or report.message)
        else:
            ours += _take_one(connection, account_id, report, sample, now)
    for key, messages in by_call.items():
        sent = batches.sent_with(connection, key)
        if sent is None or sent.account_id != account_id:
            _insert(connection, report, ErrorSample(key, messages[0]), _NOT_OURS, key, now)
            continue
        ours += len(messages)
        found = meant(sent.members, report.event_name, messages)
        for event_id, message in found.named.items():
            name = batches.identifier_then(connection, event_id, sent.begun_at)
            sample = ErrorSample(key_of_member(key, event_id), message)
            _insert(connection, report, sample, event_id, name, None)
        unnamed += found.unnamed
        suspects.update(found.suspects)
    if report.errors <= len(report.samples):
        suspect(connection, report.report, report.code, suspects)
    return Taken(ours, unnamed)


def key_of_member(key: str, event_id: int) -> str:
    """How a sample is kept that names an event by the key of a call with several."""
    return f"{key}/{event_id}"


def batch_of_sample(key: str) -> int | None:
    """The batch of such a key; None for any other."""
    return batch_of(key.partition("/")[0])


def suspect(connection: sqlite3.Connection, report: str, code: str, events: Iterable[int]) -> None:
    """Nothing else can be meant by what a report has not named."""
    connection.executemany(
        "INSERT OR IGNORE INTO report_suspects VALUES (?, ?, ?)", [(report, code, event_id) for event_id in events]
    )


def _take_one(
    connection: sqlite3.Connection, account_id: int, report: ErrorReport, sample: ErrorSample, now: float
) -> bool:
    """Whether the sample is about an event of this account in this ledger that had a call of its own."""
    name = of_idempotency_key(sample.key)
    event_id = event_named(connection, name, account_id)
    _insert(connection, report, sample, event_id or _NOT_OURS, name, None if event_id is not None else now)
    return event_id is not None


def _insert(
    connection: sqlite3.Connection,
    report: ErrorReport,
    sample: ErrorSample,
    event_id: int,
    name: str,
    settled_at: float | None,
) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO error_samples VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            sample.key,
            report.report,
            report.code,
            event_id,
            name,
            sample.message or report.message,
            settled_at,
        ),
    )
