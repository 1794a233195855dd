"""What Stripe reports late: errors of meter events that it had taken, and which events they are about."""

import sqlite3
from collections.abc import Sequence

from otel_usageflow.extensions.sqlite_storage.doubt import samples, verdicts
from otel_usageflow.extensions.sqlite_storage.doubt.verdicts import Ground
from otel_usageflow.ledger.audit import SERVICE
from otel_usageflow.ledger.doubt import ErrorReport, Read, Rejected
from otel_usageflow.ledger.identifier import next_idempotency_key
from otel_usageflow.ledger.states import UNSETTLED, EventState

_WHY = "Stripe reported that it has not counted it"
_FIRST_REPLAY = 2
"""The first attempt whose answer can be a replay, after which the key changes for the first time."""


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
        found = samples.take(connection, account_id, report, now)
        ours += found.ours
        others += len(report.samples) - found.ours
        connection.execute(
            "UPDATE error_reports SET ours = ?, samples = samples - ?, "
            "settled_at = CASE WHEN errors <= samples - ? THEN ? END WHERE report = ? AND code = ?",
            (found.ours, found.unnamed, found.unnamed, now, report.report, report.code),
        )
        if report.errors > len(report.samples) - found.unnamed:
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
                  e.identifier, e.idempotency_key, e.duplicate, e.batch
           FROM error_samples s JOIN meter_events e USING (event_id)
           WHERE s.settled_at IS NULL AND e.account_id = ? AND e.state NOT IN (?, ?) LIMIT ?""",
        (account_id, *UNSETTLED, limit),
    ).fetchall()
    rejected = []
    for key, report, code, message, name, event_id, event_name, state, current, last_key, duplicate, batch in rows:
        if batch:  # what went last is told by the batch, not by the key of a call of its own
            last_key = key if samples.batch_of_sample(key) == batch else ""
        about = is_about(
            EventState(state), name, current, key, last_key, duplicate=bool(duplicate), streamed=bool(batch)
        )
        if about is None:  # as good as one that was not named: the summaries tell
            _suspect_too(connection, report, code, event_id)
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
    left = connection.execute(
        "SELECT 1 FROM error_samples s JOIN meter_events e USING (event_id) "
        "WHERE s.settled_at IS NULL AND e.account_id = ? LIMIT 1",
        (account_id,),
    ).fetchone()
    return rejected, left is not None


def close(connection: sqlite3.Connection, report: str, code: str, now: float) -> None:
    """Nothing more is to be found for a report."""
    connection.execute(
        "UPDATE error_reports SET settled_at = coalesce(settled_at, ?) WHERE report = ? AND code = ?",
        (now, report, code),
    )


def _suspect_too(connection: sqlite3.Connection, report: str, code: str, event_id: int) -> None:
    """If it is known who else can be meant, or nobody else can be, then this event can be meant, too."""
    known = connection.execute(
        """SELECT 1 FROM report_suspects WHERE report = :report AND code = :code UNION ALL
           SELECT 1 FROM error_reports WHERE report = :report AND code = :code AND errors <= samples""",
        {"report": report, "code": code},
    ).fetchone()
    if known is not None:
        samples.suspect(connection, report, code, [event_id])


def is_about(
    state: EventState,
    name: str,
    current: str,
    key: str,
    last_key: str,
    *,
    duplicate: bool,
    streamed: bool = False,
) -> bool | None:
    """Whether an error of an attempt says that the event, as it stands, is not counted; None if that is not certain.

    It does not if the event was sent under another identifier since. It does if the attempt had the last idempotency
    key: Stripe processes each once. An earlier attempt, under another key, says nothing if a later one was taken.
    If Stripe answered the later one with "exists already", then one of the earlier attempts is what exists; which one
    is certain only while there was a single earlier key. The stream (`streamed`: the last attempt went there) takes
    everything and drops what exists already without a word, so that its yes says nothing about earlier attempts.
    """
    if name != current or state not in (EventState.ACCEPTED, EventState.UNKNOWN):
        return False
    if key == last_key:
        return True
    if streamed:
        return None
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
