"""What Stripe reports late: errors of meter events that it had taken, and which events they are about."""

import sqlite3
from collections.abc import Sequence

from otel_usageflow.extensions.sqlite_storage.doubt import verdicts
from otel_usageflow.extensions.sqlite_storage.doubt.verdicts import Ground, event_named
from otel_usageflow.ledger.audit import SERVICE
from otel_usageflow.ledger.doubt import ErrorReport, ErrorSample, Read, Rejected
from otel_usageflow.ledger.identifier import next_idempotency_key, of_idempotency_key
from otel_usageflow.ledger.states import UNSETTLED, EventState

_WHY = "Stripe reported that it has not counted it"
_FIRST_REPLAY = 2
"""The first attempt whose answer can be a replay, after which the key changes for the first time."""
_NOT_OURS = 0
"""Stands for the event of a sample that this ledger has not sent."""


def cursor(connection: sqlite3.Connection, account_id: int) -> str | None:
    """Stripe's `created` of the last report that was read; before the first, when the first event was made."""
    row = connection.execute("SELECT created FROM report_cursors WHERE account_id = ?", (account_id,)).fetchone()
    if row is None:
        row = connection.execute(
            "SELECT strftime('%Y-%m-%dT%H:%M:%SZ', frozen_at, 'unixepoch') FROM meter_events WHERE account_id = ? "
            "ORDER BY event_id LIMIT 1",
            (account_id,),
        ).fetchone()
    return None if row is None else str(row[0])


def take(
    connection: sqlite3.Connection, account_id: int, reports: Sequence[ErrorReport], created: str | None, now: float
) -> Read:
    """Take reports, those that are there already only once, and remember up to where they were read."""
    ours = others = 0
    more = 0
    for report in reports:
        new = connection.execute(
            "INSERT OR IGNORE INTO error_reports VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, NULL)",
            (
                report.report,
                report.code,
                account_id,
                report.event_name,
                report.message,
                report.validation_start,
                report.validation_end,
                report.errors,
                len(report.samples),
                now,
            ),
        ).rowcount
        if not new:
            continue
        found = sum(_take_sample(connection, account_id, report, sample, now) for sample in report.samples)
        ours += found
        others += len(report.samples) - found
        connection.execute(
            "UPDATE error_reports SET ours = ?, settled_at = CASE WHEN errors <= samples THEN ? END "
            "WHERE report = ? AND code = ?",
            (found, now, report.report, report.code),
        )
        if report.errors > len(report.samples):
            more += 1
    if created is not None:
        connection.execute(
            "INSERT INTO report_cursors VALUES (?, ?) ON CONFLICT DO UPDATE SET created = excluded.created",
            (account_id, created),
        )
    return Read(ours, others, more)


def apply(
    connection: sqlite3.Connection, account_id: int, now: float, limit: int = 1_000
) -> tuple[list[Rejected], bool]:
    """Apply samples to the events that they name, once these have an answer; whether some still wait."""
    rows = connection.execute(
        """SELECT s.idempotency_key, s.report, s.code, s.message, s.identifier, e.event_id, e.event_name, e.state,
                  e.identifier, e.idempotency_key, e.duplicate
           FROM error_samples s JOIN meter_events e USING (event_id)
           WHERE s.settled_at IS NULL AND e.account_id = ? AND e.state NOT IN (?, ?) LIMIT ?""",
        (account_id, *UNSETTLED, limit),
    ).fetchall()
    rejected = []
    for key, report, code, message, name, event_id, event_name, state, current, last_key, duplicate in rows:
        about = is_about(EventState(state), name, current, key, last_key, duplicate=bool(duplicate))
        if about is None:  # as good as one that was not named: the summaries tell
            connection.execute(
                "UPDATE error_reports SET samples = samples - 1, settled_at = NULL WHERE report = ? AND code = ?",
                (report, code),
            )
        elif about:
            verdicts.reject(connection, event_id, code, message, Ground(SERVICE, _WHY, {"report": report}), now)
            rejected.append(Rejected(current, event_name, code, message))
        connection.execute(
            "UPDATE error_samples SET settled_at = ? WHERE idempotency_key = ? AND report = ?", (now, key, report)
        )
    left = connection.execute("SELECT 1 FROM error_samples WHERE settled_at IS NULL LIMIT 1").fetchone()
    return rejected, left is not None


def close(connection: sqlite3.Connection, report: str, code: str, now: float) -> None:
    """Nothing more is to be found for a report."""
    connection.execute(
        "UPDATE error_reports SET settled_at = coalesce(settled_at, ?) WHERE report = ? AND code = ?",
        (now, report, code),
    )


def is_about(state: EventState, name: str, current: str, key: str, last_key: str, *, duplicate: bool) -> bool | None:
    """Whether an error of an attempt says that the event, as it stands, is not counted; None if that is not certain.

    It does not if the event was sent under another identifier since. It does if the attempt had the last idempotency
    key: Stripe processes each once. An earlier attempt, under another key, says nothing if a later one was taken.
    If Stripe answered the later one with "exists already", then one of the earlier attempts is what exists; which one
    is certain only while there was a single earlier key.
    """
    if name != current or state not in (EventState.ACCEPTED, EventState.UNKNOWN):
        return False
    if key == last_key:
        return True
    if state is not EventState.ACCEPTED or not duplicate:
        return False
    return True if key == name and last_key == next_idempotency_key(name, _FIRST_REPLAY) else None


def open_count(connection: sqlite3.Connection, book: str) -> int:
    """Reports of which it is not known yet which events they are about."""
    (count,) = connection.execute(
        "SELECT count(*) FROM error_reports r JOIN accounts USING (account_id) "
        "WHERE r.settled_at IS NULL AND book = ?",
        (book,),
    ).fetchone()
    return int(count)


def _take_sample(
    connection: sqlite3.Connection, account_id: int, report: ErrorReport, sample: ErrorSample, now: float
) -> bool:
    """Whether the sample is about an event of this account in this ledger; it stays open until that is settled."""
    name = of_idempotency_key(sample.key)
    event_id = event_named(connection, name)
    if event_id is not None:
        (owner,) = connection.execute(
            "SELECT account_id FROM meter_events WHERE event_id = ?", (event_id,)
        ).fetchone()
        event_id = event_id if owner == account_id else None
    connection.execute(
        "INSERT OR IGNORE INTO error_samples VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            sample.key,
            report.report,
            report.code,
            event_id or _NOT_OURS,
            name,
            sample.message or report.message,
            None if event_id is not None else now,
        ),
    )
    return event_id is not None
