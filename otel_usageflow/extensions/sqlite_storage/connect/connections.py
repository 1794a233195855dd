"""Connected accounts and the links that lead to them, as rows; every change of them stands in the audit log."""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from otel_usageflow.errors import StorageCorrupt
from otel_usageflow.extensions.sqlite_storage.proof.audit import record
from otel_usageflow.ledger import connections as of
from otel_usageflow.ledger.audit import SERVICE, Change
from otel_usageflow.ledger.connections import Claim, Connection, ConnectionState, Link, Outcome
from otel_usageflow.model.crash_point import reached

_COLUMNS = "account, kind, scope, state, connected_at, changed_at, actor, revoked, sealed, renew_at, renewing"
_LINK = "nonce, book, made_at, expires_at, actor, account, outcome, became"
_KEPT = 90 * 86_400
"""Seconds after which a link is forgotten that has expired: its signature is refused as expired anyway."""


def connections(connection: sqlite3.Connection, book: str) -> dict[str, Connection]:
    """Every connection of a book by its account."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM connections WHERE book = ? ORDER BY account", (book,))
    return {one.account: one for one in map(_connection, rows)}


def one(connection: sqlite3.Connection, book: str, account: str) -> Connection | None:
    """One connection."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM connections WHERE book = ? AND account = ?", (book, account)
    ).fetchone()
    return None if row is None else _connection(row)


def make_link(connection: sqlite3.Connection, link: Link) -> None:
    """Write down a link before anybody sees it."""
    connection.execute("DELETE FROM connect_links WHERE expires_at < ?", (link.made_at - _KEPT,))
    connection.execute(
        f"INSERT INTO connect_links ({_LINK}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            link.nonce,
            link.book,
            link.made_at,
            link.expires_at,
            link.actor,
            link.account,
            str(link.outcome),
            link.became,
        ),
    )
    after: dict[str, object] = {"book": link.book, "expires_at": link.expires_at}
    if link.account:
        after["account"] = link.account
    record(connection, Change(link.actor, of.LINK_MADE, _name(link), after=after), link.made_at)


def claim(
    connection: sqlite3.Connection, book: str, nonce: bytes, outcome: Outcome, now: float, code: bytes
) -> tuple[Claim, Link | None]:
    """Take an open link for good; of two callers the second finds it used, with whichever link its code came."""
    link = _link(connection, nonce)
    if link is None:
        return Claim.UNKNOWN, None
    if link.book != book:
        return Claim.FOREIGN, link
    if link.outcome is not Outcome.OPEN:
        return Claim.USED, link
    if link.expires_at <= now:
        return Claim.EXPIRED, link
    if code and connection.execute("SELECT 1 FROM connect_links WHERE code = ? AND code != x''", (code,)).fetchone():
        return Claim.REPLAYED, link
    connection.execute("UPDATE connect_links SET code = ? WHERE nonce = ?", (code, nonce))
    _conclude(connection, link, outcome, "", now)
    reached("connect: taken")
    return Claim.YOURS, replace(link, outcome=outcome)


def conclude(connection: sqlite3.Connection, nonce: bytes, outcome: Outcome, became: str, now: float) -> None:
    """Write down what became of a link that was taken."""
    link = _link(connection, nonce)
    if link is not None:
        _conclude(connection, link, outcome, became, now)


def interrupted(connection: sqlite3.Connection, book: str, now: float) -> list[Link]:
    """Links that were taken and have no outcome; they get one."""
    rows = connection.execute(
        f"SELECT {_LINK} FROM connect_links WHERE book = ? AND outcome = ?", (book, str(Outcome.TAKEN))
    )
    links = [_to_link(row) for row in rows]
    for link in links:
        _conclude(connection, link, Outcome.UNKNOWN, "the service ended before Stripe's answer was written down", now)
    return links


def connect(connection: sqlite3.Connection, book: str, nonce: bytes, new: Connection, now: float) -> None:
    """Write down a connection, new or renewed, and that this link led to it."""
    before = one(connection, book, new.account)
    connection.execute(
        f"INSERT OR REPLACE INTO connections (book, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (book, *_values(new)),
    )
    after = {**_told(new), "book": book}
    change = Change(new.actor, of.CONNECTED, f"account {new.account}", before=_told(before), after=after)
    record(connection, change, now)
    link = _link(connection, nonce)
    if link is not None:
        _conclude(connection, link, Outcome.CONNECTED, new.account, now)
    reached("connect: written")


def renewing(connection: sqlite3.Connection, book: str, account: str, sealed: bytes) -> bool:
    """Note that the refresh token in `sealed` is about to be exchanged, if it is the one that stands here."""
    changed = connection.execute(
        "UPDATE connections SET renewing = 1 WHERE book = ? AND account = ? AND sealed = ? AND state = ?",
        (book, account, sealed, str(ConnectionState.CONNECTED)),
    )
    return changed.rowcount == 1


def renewed(
    connection: sqlite3.Connection, book: str, account: str, before: bytes, sealed: bytes, renew_at: float
) -> bool:
    """Put new tokens in the place of `before`."""
    changed = connection.execute(
        "UPDATE connections SET renewing = 0, sealed = ?, renew_at = ? "
        "WHERE book = ? AND account = ? AND sealed = ? AND state = ?",
        (sealed, renew_at, book, account, before, str(ConnectionState.CONNECTED)),
    )
    if changed.rowcount:
        reached("renew: written")
    return changed.rowcount == 1


def end(
    connection: sqlite3.Connection,
    book: str,
    account: str,
    state: ConnectionState,
    at: float,
    now: float,
    why: str,
    actor: str = SERVICE,
) -> bool:
    """Mark a connection as over, if it began before `at`. Its tokens are deleted."""
    there = one(connection, book, account)
    if there is None or not there.usable or there.connected_at > at:
        return False
    revoked = state is ConnectionState.DEAUTHORIZED
    connection.execute(
        "UPDATE connections SET state = ?, changed_at = ?, actor = ?, revoked = ?, sealed = x'', renew_at = 0, "
        "renewing = 0 WHERE book = ? AND account = ?",
        (str(state), now, actor, int(revoked), book, account),
    )
    action = {
        ConnectionState.REMOVED: of.ACCOUNT_REMOVED,
        ConnectionState.DEAUTHORIZED: of.DEAUTHORIZED,
        ConnectionState.LOST: of.LOST,
    }[state]
    after = {**_told(there), "book": book, "state": str(state)}
    record(connection, Change(actor, action, f"account {account}", before=_told(there), after=after, why=why), now)
    return True


def revoked(connection: sqlite3.Connection, book: str, account: str, actor: str, now: float) -> None:
    """Stripe has been told that a connection is over."""
    connection.execute("UPDATE connections SET revoked = 1 WHERE book = ? AND account = ?", (book, account))
    record(connection, Change(actor, of.ACCOUNT_REVOKED, f"account {account}", after={"book": book}), now)


def unsent(connection: sqlite3.Connection, book: str) -> Mapping[str, int]:
    """Meter events without a definite answer, by account."""
    return dict(
        connection.execute(
            "SELECT account, count(*) FROM meter_events JOIN accounts USING (account_id) "
            "WHERE meter_events.state IN (0, 1) AND book = ? GROUP BY account",
            (book,),
        )
    )


def wrong_words(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """(where, what): rows that say something that there is not, so that the file was damaged or changed."""
    known = ", ".join(f"'{one}'" for one in ConnectionState)
    for account, state in connection.execute(f"SELECT account, state FROM connections WHERE state NOT IN ({known})"):
        yield f"connected account {account}", f"is in the state {state!r}, which there is not"
    known = ", ".join(f"'{one}'" for one in Outcome)
    for nonce, said in connection.execute(f"SELECT nonce, outcome FROM connect_links WHERE outcome NOT IN ({known})"):
        yield f"connect link {bytes(nonce)[:4].hex()}", f"has the outcome {said!r}, which there is not"


def forget_open_links(connection: sqlite3.Connection) -> None:
    """No link works in a copy: it may have been used since the copy was made."""
    connection.execute(
        "UPDATE connect_links SET outcome = ?, became = ? WHERE outcome = ?",
        (str(Outcome.REFUSED), "it was made before this copy of the ledger", str(Outcome.OPEN)),
    )


def _conclude(connection: sqlite3.Connection, link: Link, outcome: Outcome, became: str, now: float) -> None:
    connection.execute(
        "UPDATE connect_links SET outcome = ?, became = ? WHERE nonce = ?", (str(outcome), became, link.nonce)
    )
    before, after = {"outcome": str(link.outcome)}, {"outcome": str(outcome), "became": became}
    record(connection, Change(SERVICE, of.LINK_USED, _name(link), before=before, after=after), now)


def _link(connection: sqlite3.Connection, nonce: bytes) -> Link | None:
    row = connection.execute(f"SELECT {_LINK} FROM connect_links WHERE nonce = ?", (nonce,)).fetchone()
    return None if row is None else _to_link(row)


def _to_link(row: tuple[Any, ...]) -> Link:
    nonce, book, made_at, expires_at, actor, account, outcome, became = row
    return Link(nonce, book, made_at, expires_at, actor, account, Outcome(outcome), became)


def _name(link: Link) -> str:
    """The first bytes of the nonce: enough to tell links apart, and not enough to make one."""
    return f"connect link {link.nonce[:4].hex()}"


def _connection(row: tuple[Any, ...]) -> Connection:
    account, kind, scope, state, connected_at, changed_at, actor, told, sealed, renew_at, began = row
    try:
        over = ConnectionState(state)
    except ValueError:
        raise StorageCorrupt(
            f"the connected account {account} is in the state {state!r}, which there is not: the ledger is damaged; "
            "see `otel-usageflow ledger verify`"
        ) from None
    return Connection(
        account, kind, scope, over, connected_at, changed_at, actor, bool(told), sealed, renew_at, bool(began)
    )


def _values(one: Connection) -> tuple[object, ...]:
    return (
        one.account,
        one.kind,
        one.scope,
        str(one.state),
        one.connected_at,
        one.changed_at,
        one.actor,
        int(one.revoked),
        one.sealed,
        one.renew_at,
        int(one.renewing),
    )


def _told(one: Connection | None) -> dict[str, object]:
    return {} if one is None else {"kind": one.kind, "scope": one.scope, "state": str(one.state)}
