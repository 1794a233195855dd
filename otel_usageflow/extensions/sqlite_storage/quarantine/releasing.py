"""What the service releases by itself: usage that a wrong clock took for too old, and events whose customer or meter
is there again.
"""

import sqlite3
from collections.abc import Sequence

from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.quarantine import entries as quarantine_entries
from otel_usageflow.extensions.sqlite_storage.quarantine import release
from otel_usageflow.extensions.sqlite_storage.quarantine.decisions import Who
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.audit import SERVICE
from otel_usageflow.ledger.charge import STRIPE_PAST
from otel_usageflow.ledger.quarantine import RELEASE_MARGIN, Decided, Entry, Filters, Kind
from otel_usageflow.ledger.releases import Wanting
from otel_usageflow.model.usage import Reason

_MOST_EVENTS = 500
"""Refused events that one look releases; the next look finds the others."""
_YOUNG = Who(SERVICE, "younger than 35 days by the present clock")
_REFUSED = """
FROM meter_events e JOIN accounts a USING (account_id)
WHERE e.state = 3 AND e.reason {} AND a.book = ? {} AND e.settled_at <= ?
"""
_WANTING = f"""
SELECT DISTINCT a.account, e.reason, e.event_name, e.customer,
  EXISTS (SELECT 1 FROM customers c WHERE c.account_id = e.account_id AND c.customer = e.customer)
{_REFUSED.format("IN (?, ?)", "")}
"""
_EVENTS = f"""
SELECT e.event_id, e.identifier, coalesce(e.code, ''), e.timestamp, e.requests, e.value
{_REFUSED.format("= ?", "AND a.account = ? AND e.event_name = ? AND e.customer = ?")} LIMIT {_MOST_EVENTS}
"""

WANTED = (Reason.NO_CUSTOMER, Reason.NO_METER)

Page = list[Entry]


def young(connection: sqlite3.Connection, now: float) -> list[Page]:
    """What was kept aside as too old and is not, page by page. What Stripe itself called too old is not meant."""
    filters = Filters(reasons=(Reason.TOO_OLD,), since=now - STRIPE_PAST + 2 * RELEASE_MARGIN)
    pages = quarantine_entries.pages(connection, filters)
    return [kept for page in pages if (kept := [entry for entry in page if entry.kind is not Kind.EVENT])]


def release_young(connection: sqlite3.Connection, entries: Sequence[Entry], now: float) -> int:
    """Release a page of that; return how many entries were."""
    return _release(connection, entries, _YOUNG, now)


def wanting(connection: sqlite3.Connection, book: str, now: float, after: float) -> list[Wanting]:
    """What Stripe refused for want of a customer or a meter, at least `after` seconds ago."""
    rows = connection.execute(_WANTING, (*WANTED, book, now - after)).fetchall()
    return [
        Wanting(account, Reason(reason), event_name, customer, bool(listed))
        for account, reason, event_name, customer, listed in rows
    ]


def release_wanting(connection: sqlite3.Connection, book: str, what: Wanting, now: float, after: float) -> int:
    """Send events again that Stripe refused for want of what is there now; return how many entries were."""
    rows = connection.execute(
        _EVENTS, (what.reason, book, what.account, what.event_name, what.customer, now - after)
    ).fetchall()
    missing = "customer" if what.reason is Reason.NO_CUSTOMER else "meter"
    return _release(connection, _entries(rows, what.reason), Who(SERVICE, f"the {missing} is there now"), now)


def _entries(rows: Sequence[tuple[int, str, str, int, int, str]], reason: Reason) -> list[Entry]:
    """As parts that are sent again as they are: what could be given back was, when Stripe refused it."""
    return [
        Entry(
            Kind.EVENT, event_id, identifier, reason, code, timestamp, requests, amount.restored(value), "",
            whole=True, alone=False,
        )
        for event_id, identifier, code, timestamp, requests, value in rows
    ]  # fmt: skip


def _release(connection: sqlite3.Connection, entries: Sequence[Entry], who: Who, now: float) -> int:
    names: dict[str, Names] = {}
    done = release.release(connection, lambda book: names.setdefault(book, Names(book)), entries, Decided(), who, now)
    return len(done)
