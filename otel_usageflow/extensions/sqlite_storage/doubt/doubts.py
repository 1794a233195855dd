"""Meter events that may or may not be counted: what to ask the summaries about them, and what became of it."""

import sqlite3
from collections.abc import Mapping
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
_OF_PLACE = """account_id = (SELECT account_id FROM accounts WHERE book = ? AND account = ?)
               AND event_name = ? AND customer = ?"""
_SUSPICIOUS = f"""
SELECT r.report, r.code, r.validation_start - {REPORT_MARGIN}, r.validation_end + {REPORT_MARGIN} FROM error_reports r
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
    """Where there are events that a report may be about, at most `limit` places. It may read much."""
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
    who = (book, place.account, place.event_name, place.customer)
    changing = connection.execute(
        f"SELECT 1 FROM adjustments WHERE {_OF_PLACE} AND (settled_at IS NULL OR settled_at > ?)", (*who, now - delay)
    ).fetchone()
    if changing is not None:
        return None
    reports = connection.execute(_SUSPICIOUS, (place.event_name, book, place.account)).fetchall()
    rows = connection.execute(
        f"""SELECT event_id, state, value, timestamp, payload, first_attempt_at, settled_at FROM meter_events
            WHERE timestamp >= ? AND timestamp < ? AND {_OF_PLACE} ORDER BY settled_at, event_id""",
        (place.minute, place.minute + MINUTE, *who),
    ).fetchall()
    known: list[tuple[int, Quantity]] = []
    candidates: list[Candidate] = []
    suspects: dict[int, tuple[str, str]] = {}
    for event_id, number, text, timestamp, payload, begun_at, settled_at in rows:
        state = EventState(number)
        if state in UNSETTLED or (settled_at or 0) > now - delay:
            return None
        value = amount.normal(Decimal(text))
        suspicion = None
        if state is EventState.ACCEPTED:
            suspicion = next((r for r in reports if (begun_at or 0) <= r[3] and (settled_at or 0) >= r[2]), None)
        if suspicion is not None:
            suspects[event_id] = (str(suspicion[0]), str(suspicion[1]))
        if state is EventState.UNKNOWN or suspicion is not None:
            candidates.append(Candidate(event_id, value, timestamp, f"{state.name} {payload}"))
        elif state is EventState.ACCEPTED:
            known.append((timestamp, value))
    return Question(place, known_of(known), tuple(candidates), suspects) if candidates else None


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
