"""Reading for reconciling: what Stripe must have counted, summed from the meter events alone.

It looks at no other sum of the ledger, so that a mistake in those shows.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from otel_usageflow.extensions.sqlite_storage import exact
from otel_usageflow.extensions.sqlite_storage.doubt.doubt_ledger import Runs
from otel_usageflow.extensions.sqlite_storage.flow import trace_rows
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.reconcile import ComparedState, EventFact, Facts, Only, Pair, Stretch, Tally, role_of
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.usage import Quantity

_BOOK = "e.account_id IN (SELECT account_id FROM accounts WHERE book = :book)"
_ONLY = """(:account IS NULL OR a.account = :account) AND (:event_name IS NULL OR e.event_name = :event_name)
           AND (:customer IS NULL OR e.customer = :customer)"""
_AMONG = """(:among IS NULL OR
             json_array(a.account, e.event_name, e.customer) IN (SELECT value FROM json_each(:among)))"""
_MENDING = "EXISTS (SELECT 1 FROM adjustments m WHERE m.event_id = e.event_id AND m.origin = 'reconcile')"
# What was left to a person after an attempt to cancel may have been cancelled all the same.
_CANCELLING = """EXISTS (SELECT 1 FROM adjustments c WHERE c.corrects = e.event_id AND c.whole
                         AND (c.state IN ('cancelling', 'unclear') OR c.state = 'by_hand' AND c.attempts > 0))"""
# An event that was refused, given back or not sent yet says nothing about how far Stripe's summaries are.
_CHANGED = "CASE WHEN e.state IN (2, 7) THEN e.settled_at WHEN e.state = 1 THEN e.first_attempt_at ELSE 0 END"

_TALLIES = f"""
SELECT account, event_name, customer, step, {exact.columns("amount")}, count(amount),
       total(abs(CAST(amount AS REAL))), coalesce(max(instr(amount, '.')), 0), max(changed)
FROM (
  SELECT a.account, e.event_name, e.customer, (e.timestamp - :start) / :width AS step, {_CHANGED} AS changed,
    CASE WHEN e.state != {int(EventState.ACCEPTED)} OR {_MENDING} THEN NULL
              WHEN instr(e.value, '.') OR length(e.value) > 15 THEN e.value
              ELSE CAST(e.value AS INTEGER) END AS amount
  FROM meter_events e JOIN accounts a USING (account_id)
  WHERE e.timestamp >= :start AND e.timestamp < :end AND {_BOOK} AND {_ONLY} AND {_AMONG}
)
GROUP BY account, event_name, customer, step
"""
_FACTS = f"""
SELECT e.identifier, e.value, e.timestamp, e.state, coalesce({_CHANGED}, 0), {_CANCELLING}, {_MENDING},
       e.state IN (3, 5, 6) AND e.settled_at IS NOT NULL
FROM meter_events e JOIN accounts a USING (account_id)
WHERE e.timestamp >= :start AND e.timestamp < :end AND {_BOOK} AND {_ONLY} ORDER BY e.settled_at, e.event_id
"""
# Stripe looks at events some time after it took them; clocks differ, and queues are late.
_LATE_REFUSALS = f"""
SELECT count(*) FROM error_reports r JOIN accounts a USING (account_id)
WHERE r.settled_at IS NULL AND r.errors > r.samples + r.found
  AND a.book = :book AND a.account = :account AND r.event_name IN (:event_name, '')
  AND EXISTS (SELECT 1 FROM meter_events e WHERE e.timestamp >= :start AND e.timestamp < :end AND {_BOOK}
              AND e.event_name = :event_name AND e.customer = :customer AND e.state = {int(EventState.ACCEPTED)}
              AND e.first_attempt_at <= r.validation_end + 300 AND e.settled_at >= r.validation_start - 300)
"""
_OPEN_SAMPLES = f"""
SELECT count(*) FROM error_samples s JOIN meter_events e USING (event_id) JOIN accounts a USING (account_id)
WHERE s.settled_at IS NULL AND e.timestamp >= :start AND e.timestamp < :end AND {_BOOK} AND {_ONLY}
"""
_OPEN_CORRECTIONS = f"""
SELECT count(*) FROM adjustments e JOIN accounts a USING (account_id)
WHERE e.settled_at IS NULL AND e.timestamp >= :start AND e.timestamp < :end AND {_BOOK} AND {_ONLY}
"""
_NEXT = f"""
SELECT DISTINCT a.account, e.event_name, e.customer, coalesce(r.at, 0)
FROM meter_events e JOIN accounts a USING (account_id)
LEFT JOIN reconciled r ON r.account_id = e.account_id AND r.event_name = e.event_name AND r.customer = e.customer
WHERE e.timestamp >= :start AND e.timestamp < :end AND {_BOOK}
  AND a.account NOT IN (SELECT value FROM json_each(:without)) ORDER BY 4, 1, 2, 3 LIMIT :limit
"""


class SqliteSums:
    """The `ComparedSums` of one book. `change` runs in the writer's thread, `look` beside it."""

    def __init__(self, change: Runs, look: Runs, book: str) -> None:
        self._change = change
        self._look = look
        self._book = book

    async def beginning(self) -> int | None:
        """The moment from which on the ledger has every meter event; None if it has none."""
        return await self._look(lambda connection: beginning(connection, self._book))

    async def tallies(self, stretch: Stretch, only: Only) -> Mapping[Pair, Mapping[int, Tally]]:
        """Pair -> start of a step -> what is expected."""
        return await self._look(lambda connection: tallies(connection, self._book, stretch, only))

    async def facts(self, pair: Pair, start: int, end: int) -> Facts:
        """Every meter event of a stretch."""
        return await self._look(lambda connection: facts(connection, self._book, pair, start, end))

    async def next_pairs(self, start: int, end: int, limit: int, without: Collection[str] = ()) -> list[Pair]:
        """Pairs with events in a stretch, the one whose comparison is longest ago first; none of some accounts."""
        return await self._look(lambda connection: next_pairs(connection, self._book, start, end, limit, without))

    async def note(self, pair: Pair, at: float, since: int, until: int, difference: Quantity) -> None:
        """Remember that a pair was compared, and by how much it differed."""
        await self._change(lambda connection: note(connection, self._book, pair, at, since, until, difference))

    async def compared(self) -> ComparedState:
        """What was found when each pair was last compared."""
        return await self._look(lambda connection: compared(connection, self._book))

    async def oldest_unsent(self) -> float | None:
        """When the oldest usage ended that can be sent and has no answer yet."""
        return await self._look(lambda connection: oldest_unsent(connection, self._book))


def beginning(connection: sqlite3.Connection, book: str) -> int | None:
    """The moment from which on the ledger has every meter event of a book."""
    row = connection.execute(
        f"SELECT e.timestamp FROM meter_events e WHERE {_BOOK} ORDER BY e.timestamp LIMIT 1", {"book": book}
    ).fetchone()
    if row is None:
        return None
    (pruned,) = connection.execute("SELECT pruned_to FROM ledger").fetchone()
    return max(int(row[0]), int(pruned))


def tallies(connection: sqlite3.Connection, book: str, stretch: Stretch, only: Only) -> dict[Pair, dict[int, Tally]]:
    """What is expected of each pair in each step, from what is accepted now."""
    among = None if only.among is None else json.dumps(only.among, ensure_ascii=False, separators=(",", ":"))
    asked = {**stretch._asdict(), **only._asdict(), "among": among, "book": book}
    found: dict[Pair, dict[int, Tally]] = {}
    for account, name, customer, step, *sums, events, magnitude, point, changed in connection.execute(
        _TALLIES, asked
    ):
        made = Tally(exact.total(*sums), events, 0, magnitude, not point, changed or 0.0)
        found.setdefault(Pair(account, name, customer), {})[stretch.start + step * stretch.width] = made
    return found


def facts(connection: sqlite3.Connection, book: str, pair: Pair, start: int, end: int) -> Facts:
    """All that is known of one pair in a stretch of time."""
    asked = {**pair._asdict(), "book": book, "start": start, "end": end}

    def count(query: str) -> int:
        (number,) = connection.execute(query, asked).fetchone()
        return int(number)

    return Facts(
        [_fact(row) for row in connection.execute(_FACTS, asked)],
        late_refusals=count(_LATE_REFUSALS) + count(_OPEN_SAMPLES),
        open_corrections=count(_OPEN_CORRECTIONS),
    )


def _fact(row: Sequence[Any]) -> EventFact:
    identifier, value, timestamp, state, changed, cancelling, mending, refused = row
    role = role_of(EventState(state), cancelling=bool(cancelling), mending=bool(mending))
    return EventFact(identifier, amount.restored(value), timestamp, role, changed, bool(refused))


def next_pairs(
    connection: sqlite3.Connection, book: str, start: int, end: int, limit: int, without: Collection[str] = ()
) -> list[Pair]:
    """Pairs with events in a stretch, the one whose comparison is longest ago first; none of some accounts."""
    asked = {"book": book, "start": start, "end": end, "limit": limit, "without": json.dumps(sorted(without))}
    return [Pair(*row[:3]) for row in connection.execute(_NEXT, asked)]


def note(
    connection: sqlite3.Connection, book: str, pair: Pair, at: float, since: int, until: int, difference: Quantity
) -> None:
    """Remember that a pair was compared, and what came out."""
    connection.execute(
        """INSERT INTO reconciled
           SELECT account_id, ?, ?, ?, ?, ?, ? FROM accounts WHERE book = ? AND account = ?
           ON CONFLICT (account_id, event_name, customer) DO UPDATE SET
             at = excluded.at, since = excluded.since, until = excluded.until, difference = excluded.difference""",
        (pair.event_name, pair.customer, at, since, until, amount.stored(difference), book, pair.account),
    )


def compared(connection: sqlite3.Connection, book: str) -> ComparedState:
    """What was found when each pair was last compared."""
    row = connection.execute(
        "SELECT coalesce(max(at), 0), count(*), coalesce(sum(difference NOT IN (0, '0')), 0) FROM reconciled "
        "JOIN accounts USING (account_id) WHERE book = ?",
        (book,),
    ).fetchone()
    return ComparedState(*row)


def oldest_unsent(connection: sqlite3.Connection, book: str) -> float | None:
    """When the oldest usage ended that can be sent, or waits for spans of its trace, and has no answer yet.

    Of windows that began together any may be named: it is right to the length of a window.
    """
    (of_events,) = connection.execute(
        "SELECT min(e.timestamp) FROM meter_events e INDEXED BY unsettled_events "
        f"WHERE e.state IN (0, 1) AND {_BOOK}",
        {"book": book},
    ).fetchone()
    found = [] if of_events is None else [float(of_events)]
    of_traces = trace_rows.waiting(connection, book).oldest
    if of_traces is not None:
        found.append(of_traces)
    lengths = """WITH RECURSIVE lengths(length) AS (
        SELECT min(length) FROM open_windows
        UNION ALL SELECT (SELECT min(length) FROM open_windows w WHERE w.length > lengths.length) FROM lengths
        WHERE length IS NOT NULL) SELECT length FROM lengths WHERE length IS NOT NULL"""
    for (length,) in connection.execute(lengths).fetchall():
        row = connection.execute(
            """SELECT last_ns FROM open_windows JOIN series USING (series_id) JOIN meters USING (meter_id)
               JOIN accounts USING (account_id) WHERE length = ? AND book = ? ORDER BY start LIMIT 1""",
            (length, book),
        ).fetchone()
        if row is not None:
            found.append(row[0] / 1_000_000_000)
    return min(found, default=None)
