"""Meter events that may or may not be counted: what to ask the summaries about them, and what became of it."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from decimal import Decimal

from otel_usageflow.extensions.sqlite_storage.doubt import verdicts
from otel_usageflow.extensions.sqlite_storage.doubt.verdicts import Ground, decide
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.audit import SERVICE
from otel_usageflow.ledger.charge import MINUTE
from otel_usageflow.ledger.doubt import Concluded, OpenReport, Place, Question
from otel_usageflow.ledger.judge import Candidate, known_of
from otel_usageflow.ledger.states import UNSETTLED, EventState
from otel_usageflow.model.usage import Quantity

__all__ = ["Ground", "conclude", "decide", "doubtful", "open_reports", "question", "suspected", "unknown_count"]

REPORT_MARGIN = 300.0
"""Seconds around a report's validation in which its events were sent: clocks differ, and queues are late."""

_COUNTED = "the meter's summary shows it"
_NOT_COUNTED = "the meter's summary shows that it is missing"
_UNNAMED = "one of the errors that Stripe reported without naming the event"
_STILL_MEANT = (EventState.ACCEPTED, EventState.UNKNOWN, *UNSETTLED)
_PERHAPS = (EventState.SENDING, EventState.UNKNOWN)
# A correction that only waits has changed nothing yet, and one that is told has an event, whose state says all.
_CHANGING = """
SELECT 1 FROM adjustments WHERE (state IN ('cancelling', 'unclear') OR settled_at > :young)
  AND timestamp >= :minute AND timestamp < :end AND event_name = :event_name AND customer = :customer
  AND account_id = (SELECT account_id FROM accounts WHERE book = :book AND account = :account)
"""
# Of all books: two exporters may feed one meter. A cancellation that was left to a person may have got through.
_EVENTS = """
SELECT e.event_id, e.state, e.value, e.timestamp, e.payload, e.first_attempt_at, e.settled_at, a.book = :book,
  EXISTS (SELECT 1 FROM adjustments c WHERE c.corrects = e.event_id AND c.whole AND c.attempts > 0
          AND c.state = 'by_hand')
FROM meter_events e JOIN accounts a USING (account_id)
WHERE e.timestamp >= :minute AND e.timestamp < :end AND e.event_name = :event_name AND e.customer = :customer
  AND a.account = :account
ORDER BY e.settled_at, e.event_id
"""
_SUSPICIOUS = f"""
SELECT r.report, r.code, r.validation_start - {REPORT_MARGIN}, r.validation_end + {REPORT_MARGIN},
  (SELECT json_group_array(s.event_id) FROM report_suspects s WHERE s.report = r.report AND s.code = r.code)
FROM error_reports r
WHERE r.settled_at IS NULL AND r.errors > r.samples + r.found AND r.event_name IN ('', ?)
  AND r.account_id = (SELECT account_id FROM accounts WHERE book = ? AND account = ?)
ORDER BY r.validation_end, r.report, r.code
"""


def doubtful(connection: sqlite3.Connection, book: str, account: str) -> list[Place]:
    """Where there are events of unknown outcome, oldest first."""
    rows = connection.execute(
        f"""SELECT DISTINCT e.event_name, e.customer, e.timestamp / {MINUTE} * {MINUTE} FROM meter_events e
            JOIN accounts a USING (account_id) WHERE e.state = ? AND a.book = ? AND a.account = ? ORDER BY 3, 1, 2""",
        (EventState.UNKNOWN, book, account),
    )
    return [Place(account, *row) for row in rows]


def unknown_count(connection: sqlite3.Connection, book: str) -> int:
    """Events of unknown outcome in the book."""
    (count,) = connection.execute(
        "SELECT count(*) FROM meter_events e JOIN accounts a USING (account_id) WHERE e.state = ? AND a.book = ?",
        (EventState.UNKNOWN, book),
    ).fetchone()
    return int(count)


def open_reports(connection: sqlite3.Connection, book: str, account: str) -> list[OpenReport]:
    """Reports whose errors were not all named, and not all found yet."""
    rows = connection.execute(
        """SELECT r.report, r.code, r.event_name, r.validation_end, r.errors - r.samples - r.found
           FROM error_reports r JOIN accounts a USING (account_id)
           WHERE r.settled_at IS NULL AND r.errors > r.samples + r.found AND a.book = ? AND a.account = ?
           ORDER BY r.validation_end, r.report, r.code""",
        (book, account),
    )
    return [OpenReport(*row) for row in rows]


def suspected(connection: sqlite3.Connection, book: str, account: str, report: OpenReport, limit: int) -> list[Place]:
    """Where there are events that a report may be about, at most `limit` places. It may read much.

    Where it is known who can be meant, also where one of those has no answer yet.
    """
    named = connection.execute(
        f"""SELECT DISTINCT e.event_name, e.customer, e.timestamp / {MINUTE} * {MINUTE}
            FROM report_suspects s JOIN meter_events e USING (event_id)
            WHERE s.report = ? AND s.code = ? AND e.state IN (?, ?, ?, ?) LIMIT ?""",
        (report.report, report.code, *_STILL_MEANT, limit),
    ).fetchall()
    if named or _has_suspects(connection, report):
        return [Place(account, *row) for row in named]
    rows = connection.execute(
        f"""SELECT DISTINCT e.event_name, e.customer, e.timestamp / {MINUTE} * {MINUTE} FROM meter_events e
            JOIN accounts a USING (account_id) JOIN error_reports r ON r.report = ? AND r.code = ?
            WHERE e.state = ? AND a.book = ? AND a.account = ? AND r.account_id = e.account_id
              AND r.event_name IN ('', e.event_name) AND e.timestamp <= r.validation_end + {REPORT_MARGIN}
              AND e.first_attempt_at <= r.validation_end + {REPORT_MARGIN}
              AND e.settled_at >= r.validation_start - {REPORT_MARGIN}
            LIMIT ?""",
        (report.report, report.code, EventState.ACCEPTED, book, account, limit),
    )
    return [Place(account, *row) for row in rows]


def question(connection: sqlite3.Connection, book: str, place: Place, now: float, delay: float) -> Question | None:
    """What to ask about a place; None while something of it is under way, or younger than `delay` seconds."""
    asked = {**place._asdict(), "end": place.minute + MINUTE, "book": book, "young": now - delay}
    if connection.execute(_CHANGING, asked).fetchone() is not None:
        return None
    reports = connection.execute(_SUSPICIOUS, (place.event_name, book, place.account)).fetchall()
    known: list[tuple[int, Quantity]] = []
    candidates: list[Candidate] = []
    suspects: dict[int, tuple[str, str]] = {}
    apart: set[int] = set()
    for event_id, number, text, timestamp, payload, begun_at, settled_at, ours, left_open in connection.execute(
        _EVENTS, asked
    ).fetchall():
        state, value = EventState(number), amount.normal(Decimal(text))
        if (state in UNSETTLED and ours) or (settled_at or 0) > now - delay:
            return None
        suspicion = None
        if state is EventState.ACCEPTED and ours:
            suspicion = _suspicion(reports, event_id, begun_at or 0, settled_at or 0)
        if suspicion is not None:
            suspects[event_id] = suspicion
        elif (state is EventState.ACCEPTED and left_open) or (state in _PERHAPS and not ours):
            apart.add(event_id)
        elif state is EventState.ACCEPTED:
            known.append((timestamp, value))
            continue
        elif state is not EventState.UNKNOWN:
            continue
        kind = f"apart {event_id}" if event_id in apart else f"{state.name} {payload}"
        candidates.append(Candidate(event_id, value, timestamp, kind))
    if len(candidates) == len(apart):
        return None
    return Question(place, known_of(known), tuple(candidates), suspects, frozenset(apart))


def _suspicion(
    reports: Sequence[tuple[str, str, float, float, str]], event_id: int, begun_at: float, settled_at: float
) -> tuple[str, str] | None:
    """The first report (and code) that can be about an event: one that may mean it, or one of its time."""
    for report, code, since, until, suspects in reports:
        known = json.loads(suspects)
        if event_id in known if known else begun_at <= until and settled_at >= since:
            return str(report), str(code)
    return None


def _has_suspects(connection: sqlite3.Connection, report: OpenReport) -> bool:
    found = connection.execute(
        "SELECT 1 FROM report_suspects WHERE report = ? AND code = ? LIMIT 1", (report.report, report.code)
    ).fetchone()
    return found is not None


def conclude(
    connection: sqlite3.Connection,
    book: str,
    asked: Question,
    verdict: Mapping[int, bool],
    reported: Decimal,
    now: float,
    delay: float,
) -> Concluded | None:
    """Write down what a summary has shown; None, and nothing is written, if the place has changed meanwhile."""
    if question(connection, book, asked.place, now, delay) != asked:
        return None
    (pruned_to,) = connection.execute("SELECT pruned_to FROM ledger").fetchone()
    if asked.place.minute < pruned_to:
        verdict = {}  # what else was counted in that minute may not be known any more
    evidence = {
        "summary": amount.plain(reported),
        "known": amount.plain(asked.known.total),
        "known_events": asked.known.count,
        "customer": asked.place.customer,
        "minute": asked.place.minute,
    }
    done: dict[str, list[str]] = {"counted": [], "resent": [], "too_old": [], "rejected": [], "open": []}
    for candidate in asked.candidates:
        event_id, counted = candidate.event_id, verdict.get(candidate.event_id)
        if event_id in asked.apart:
            continue
        name = _identifier(connection, event_id)
        suspicion = asked.suspects.get(event_id)
        if counted is None:
            done["open"].append(name)
        elif counted and suspicion is None:
            verdicts.count(connection, event_id, Ground(SERVICE, _COUNTED, evidence), now)
            done["counted"].append(name)
        elif not counted and suspicion is None:
            again = verdicts.not_counted(connection, event_id, Ground(SERVICE, _NOT_COUNTED, evidence), now)
            done["too_old" if again == name else "resent"].append(again)
        elif not counted and suspicion is not None:
            _reject(connection, event_id, suspicion, evidence, now)
            done["rejected"].append(name)
    return Concluded(**{what: tuple(names) for what, names in done.items()})


def _reject(
    connection: sqlite3.Connection,
    event_id: int,
    suspicion: tuple[str, str],
    evidence: Mapping[str, object],
    now: float,
) -> None:
    report, code = suspicion
    (message,) = connection.execute(
        "SELECT message FROM error_reports WHERE report = ? AND code = ?", suspicion
    ).fetchone()
    ground = Ground(SERVICE, _NOT_COUNTED, {**evidence, "report": report})
    verdicts.reject(connection, event_id, code, message or _UNNAMED, ground, now)
    connection.execute("UPDATE error_reports SET found = found + 1 WHERE report = ? AND code = ?", suspicion)


def _identifier(connection: sqlite3.Connection, event_id: int) -> str:
    (name,) = connection.execute("SELECT identifier FROM meter_events WHERE event_id = ?", (event_id,)).fetchone()
    return str(name)
