"""The customer directory: which customer has which value in a metadata field, and who waits for one."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from otel_usageflow.extensions.sqlite_storage.flow import windows
from otel_usageflow.extensions.sqlite_storage.flow.lookup import Lookup
from otel_usageflow.ledger.ledger import CustomerChange, Waiting
from otel_usageflow.model.usage import Reason, Terms

_BY_CUSTOMER = (Reason.NO_CUSTOMER, Reason.AMBIGUOUS_CUSTOMER)

# From series to series along the index: a user may have a million held windows.
_HELD = """
WITH RECURSIVE held(reason, series_id) AS (
  SELECT :reason, (SELECT min(series_id) FROM held_windows WHERE reason = :reason)
  UNION ALL
  SELECT reason, (SELECT min(h.series_id) FROM held_windows h
                  WHERE h.reason = held.reason AND h.series_id > held.series_id)
  FROM held WHERE series_id IS NOT NULL
)
"""
_WAITING = f"""{_HELD}
SELECT a.account, m.event_name, s.metadata_field, s.user
FROM held JOIN series s USING (series_id) JOIN meters m USING (meter_id) JOIN accounts a USING (account_id)
WHERE a.book = :book LIMIT :limit
"""
_OF_METER = f"{_HELD} SELECT series_id FROM held JOIN series USING (series_id) WHERE meter_id = :meter"

# The states of those set aside are written as in their index, without which all meter events would be read.
_UNFINISHED = """
SELECT DISTINCT a.account, m.event_name, s.metadata_field
FROM (SELECT DISTINCT series_id FROM open_windows UNION SELECT DISTINCT series_id FROM held_windows
      UNION SELECT DISTINCT series_id FROM trace_requests WHERE due_ns IS NOT NULL)
JOIN series s USING (series_id) JOIN meters m USING (meter_id) JOIN accounts a USING (account_id) WHERE a.book = :book
UNION
SELECT DISTINCT a.account, e.event_name, ''
FROM meter_events e JOIN accounts a USING (account_id) WHERE e.state IN (0, 1) AND a.book = :book
UNION
SELECT DISTINCT a.account, e.event_name, ''
FROM meter_events e JOIN accounts a USING (account_id)
WHERE e.state IN (3, 4, 6, 7) AND e.state IN (3, 4) AND a.book = :book
UNION
SELECT DISTINCT a.account, c.event_name, ''
FROM adjustments c JOIN accounts a USING (account_id) WHERE c.settled_at IS NULL AND a.book = :book
"""


def apply(
    connection: sqlite3.Connection,
    lookup: Lookup,
    account_id: int,
    fields: Sequence[str],
    changes: Sequence[CustomerChange],
    generation: int,
) -> None:
    """Take customers in as they are now; whoever waited for a value that changed is looked at again."""
    touched: set[tuple[str, str]] = set()
    for change in changes:
        before = _values(connection, account_id, change.customer, fields)
        now = {f: v for f, v in (change.values or {}).items() if f in fields and v}
        for field in fields:
            if before.get(field) == now.get(field):
                continue
            if field in before:
                remove(connection, lookup, account_id, field, before[field], change.customer)
                touched.add((field, before[field]))
            if field in now:
                touched.add((field, now[field]))
        connection.executemany(
            "INSERT INTO customers VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET generation = excluded.generation",
            [(account_id, field, value, change.customer, generation) for field, value in now.items()],
        )
    for field, value in touched:
        lookup.forget(account_id, field, value)
        reopen(connection, account_id, field, value)


def known(
    connection: sqlite3.Connection, account_id: int, fields: Sequence[str], customers: Collection[str]
) -> dict[str, Mapping[str, str]]:
    """What the directory says about these customers: the fields that they have."""
    return {customer: _values(connection, account_id, customer, fields) for customer in customers}


def follow(connection: sqlite3.Connection, account_id: int, created: float) -> None:
    """Remember up to where Stripe's changes were applied."""
    connection.execute(
        "INSERT INTO cursors VALUES (?, ?) ON CONFLICT DO UPDATE SET created = excluded.created",
        (account_id, created),
    )


def waiting(connection: sqlite3.Connection, book: str, reasons: Sequence[Reason], limit: int) -> list[Waiting]:
    """Distinct usage that is held for one of these reasons."""
    return [
        Waiting(account, reason, name, field or None, user)
        for reason in reasons
        for account, name, field, user in connection.execute(
            _WAITING, {"reason": reason, "book": book, "limit": limit}
        )
    ][:limit]


def unfinished(connection: sqlite3.Connection, book: str) -> list[Terms]:
    """The terms of usage that is not in a meter event yet, and of events that may be sent again."""
    rows = connection.execute(_UNFINISHED, {"book": book})
    return [Terms("", event_name, field or None, account or None) for account, event_name, field in rows]


def reopen_meter(connection: sqlite3.Connection, meter_id: int) -> None:
    """Look again at everything that waited for this meter."""
    held = connection.execute(_OF_METER, {"reason": Reason.NO_METER, "meter": meter_id}).fetchall()
    for (series_id,) in held:
        windows.reopen(connection, series_id, [Reason.NO_METER])


def _values(
    connection: sqlite3.Connection, account_id: int, customer: str, fields: Sequence[str]
) -> Mapping[str, str]:
    rows = connection.execute(
        "SELECT field, value FROM customers WHERE account_id = ? AND customer = ?", (account_id, customer)
    )
    return {field: value for field, value in rows if field in fields}


def remove(
    connection: sqlite3.Connection, lookup: Lookup, account_id: int, field: str, value: str, customer: str
) -> None:
    """Forget that a customer has a value."""
    lookup.forget(account_id, field, value)
    connection.execute(
        "DELETE FROM customers WHERE account_id = ? AND field = ? AND value = ? AND customer = ?",
        (account_id, field, value, customer),
    )


def reopen(connection: sqlite3.Connection, account_id: int, field: str, value: str) -> None:
    """Look again at everything that waited for a customer with this value."""
    series = connection.execute(
        "SELECT series_id FROM series JOIN meters USING (meter_id) "
        "WHERE user = ? AND metadata_field = ? AND account_id = ?",
        (value, field, account_id),
    ).fetchall()
    for (series_id,) in series:
        windows.reopen(connection, series_id, _BY_CUSTOMER)
