"""Listings of all customers: how far one has come, and what to forget when it is complete.

A listing of a million customers takes many minutes, so every step is a short transaction of its own, and the place
that it has come to is written with the page that led there.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from otel_usageflow.extensions.sqlite_storage.flow import customers
from otel_usageflow.extensions.sqlite_storage.flow.lookup import Lookup
from otel_usageflow.ledger.ledger import CustomerChange, DirectoryState
from otel_usageflow.ledger.listing import Listing

_SWEPT_AT_ONCE = 5_000
_GONE = """
SELECT value, customer, generation FROM customers
WHERE account_id = ? AND field = ? AND (value, customer) > (?, ?) ORDER BY value, customer LIMIT ?
"""

Place = tuple[str, str]
"""Value and customer: where a sweep has come to in a field."""
BEGINNING: Place = ("", "")


def state(connection: sqlite3.Connection, account_id: int, fields: Sequence[str]) -> DirectoryState:
    """How far the directory of an account is; other fields than these are forgotten to be complete."""
    marks = ", ".join("?" * len(fields))
    connection.execute(
        f"DELETE FROM directories WHERE account_id = ? AND field NOT IN ({marks})", (account_id, *fields)
    )
    listed = dict(connection.execute("SELECT field, listed_at FROM directories WHERE account_id = ?", (account_id,)))
    cursor = connection.execute("SELECT created FROM cursors WHERE account_id = ?", (account_id,)).fetchone()
    generation, known = size(connection, account_id)
    at = cursor[0] if cursor else 0.0
    return DirectoryState(listed, at, known, generation, running(connection, account_id))


def begin(connection: sqlite3.Connection, account_id: int, fields: Sequence[str], started: float) -> Listing:
    """Begin a listing anew; one that was running is given up."""
    (last,) = connection.execute(
        "SELECT coalesce(max(generation), 0) FROM listings WHERE account_id = ?", (account_id,)
    ).fetchone()
    listing = Listing(max(int(last) + 1, int(started * 1000)), started, tuple(fields))
    connection.execute(
        "INSERT INTO listings VALUES (?, ?, 1, ?, ?, '', 0, 0, 0) ON CONFLICT DO UPDATE SET running = 1, "
        "generation = excluded.generation, started = excluded.started, fields = excluded.fields, "
        "after = '', created = 0, listed = 0",
        (account_id, listing.generation, started, json.dumps(listing.fields)),
    )
    return listing


def running(connection: sqlite3.Connection, account_id: int) -> Listing | None:
    """The listing that was not finished, if there is one."""
    row = connection.execute(
        "SELECT generation, started, fields, after, created, listed FROM listings WHERE account_id = ? AND running",
        (account_id,),
    ).fetchone()
    if row is None:
        return None
    generation, started, fields, *place = row
    return Listing(generation, started, tuple(json.loads(fields)), *place)


def size(connection: sqlite3.Connection, account_id: int) -> tuple[int, int]:
    """(the last generation, how many customers the last complete listing has shown); zeros before the first."""
    row = connection.execute(
        "SELECT generation, customers FROM listings WHERE account_id = ?", (account_id,)
    ).fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def take_page(
    connection: sqlite3.Connection,
    lookup: Lookup,
    account_id: int,
    listing: Listing,
    page: Sequence[CustomerChange],
    created: int,
) -> Listing:
    """Take a page in, and with it the place that the listing has come to."""
    customers.apply(connection, lookup, account_id, listing.fields, page, listing.generation)
    new = replace(listing, after=page[-1].customer, created=created, listed=listing.listed + len(page))
    connection.execute(
        "UPDATE listings SET after = ?, created = ?, listed = ? WHERE account_id = ? AND generation = ?",
        (new.after, new.created, new.listed, account_id, new.generation),
    )
    return new


def sweep(
    connection: sqlite3.Connection, lookup: Lookup, account_id: int, field: str, generation: int, place: Place
) -> Place | None:
    """Forget customers that this generation has not shown, as far as one step goes; None at the end."""
    rows = connection.execute(_GONE, (account_id, field, *place, _SWEPT_AT_ONCE)).fetchall()
    for value, customer, shown in rows:
        if shown != generation:
            customers.remove(connection, lookup, account_id, field, value, customer)
            customers.reopen(connection, account_id, field, value)
    return (rows[-1][0], rows[-1][1]) if len(rows) == _SWEPT_AT_ONCE else None


def finish(
    connection: sqlite3.Connection, account_id: int, fields: Sequence[str], generation: int, listed_at: float
) -> None:
    """Call the fields complete: what this generation has not shown was forgotten before."""
    connection.executemany(
        "INSERT INTO directories VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET listed_at = excluded.listed_at",
        [(account_id, field, listed_at) for field in fields],
    )
    connection.execute(
        "UPDATE listings SET running = 0, after = '', created = 0, customers = listed "
        "WHERE account_id = ? AND generation = ? AND running",
        (account_id, generation),
    )
