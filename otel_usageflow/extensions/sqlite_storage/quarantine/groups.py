"""Quarantine in groups: what is alike is one line, however many requests it is."""

import sqlite3
from collections.abc import Iterable
from typing import Any

from otel_usageflow.extensions.sqlite_storage import exact
from otel_usageflow.extensions.sqlite_storage.quarantine import filters as quarantine_filters
from otel_usageflow.extensions.sqlite_storage.quarantine.filters import NAMES
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.quarantine import Filters, Group
from otel_usageflow.model.usage import Reason

_SECOND = 1_000_000_000
# Summed by numbers first: names are looked up once for every sum. SQLite is told (+) not to begin with the names.
_REQUESTS = f"""
SELECT a.account, g.reason, '', o.policy, m.event_name, s.metadata_field, s.user, NULL, g.*, a.book
FROM (SELECT q.reason AS reason, q.series_id AS series_id, q.origin_id AS origin_id, count(*),
             {exact.columns("q.quantity")}, min(q.at_ns), max(q.at_ns), min(q.quarantined_at)
      FROM quarantine q {{names}} WHERE {{where}} GROUP BY q.series_id, q.origin_id, q.reason) g
JOIN origins o ON o.origin_id = g.origin_id JOIN series s ON s.series_id = g.series_id
JOIN meters m ON m.meter_id = s.meter_id JOIN accounts a ON a.account_id = m.account_id
"""
_WINDOWS = f"""
SELECT a.account, g.reason, '', (SELECT group_concat(policy, char(10)) FROM series_policies p
                                 WHERE p.series_id = g.series_id), m.event_name, s.metadata_field, s.user,
       iif(s.metadata_field = '', s.user, NULL), g.*, a.book
FROM (SELECT h.reason AS reason, h.series_id AS series_id, 0, sum(h.requests), {exact.columns("h.total")},
             min(h.start) * {_SECOND}, max(h.last_ns), min(h.held_at)
      FROM held_windows h {{names}} WHERE {{where}} GROUP BY h.series_id, h.reason) g
JOIN series s ON s.series_id = g.series_id
JOIN meters m ON m.meter_id = s.meter_id JOIN accounts a ON a.account_id = m.account_id
"""
# An event can cover windows of several users of one customer: their series, as text, are part of what is alike.
_EVENTS = f"""
SELECT account, reason, code, series, event_name, NULL, NULL, customer, reason, 0, 0, sum(requests),
       {exact.columns("value")}, min(timestamp) * {_SECOND}, max(timestamp) * {_SECOND}, min(settled_at), book
FROM (SELECT a.book, a.account, e.reason, coalesce(e.code, '') AS code, e.event_name, e.customer, e.requests,
             e.timestamp, e.settled_at,
             iif(e.value NOT LIKE '%.%' AND length(e.value) <= 15, CAST(e.value AS INTEGER), e.value)
             AS value,
             coalesce((SELECT iif(min(w.series_id) = max(w.series_id), CAST(min(w.series_id) AS TEXT),
                                  group_concat(w.series_id)) FROM windows w WHERE w.event_id = e.event_id - e.part),
                      (SELECT CAST(r.series_id AS TEXT) FROM records r WHERE r.key = e.record_key), '') AS series
      FROM meter_events e JOIN accounts a USING (account_id) WHERE {{where}})
GROUP BY book, account, reason, code, event_name, customer, series
"""


def groups(connection: sqlite3.Connection, filters: Filters) -> list[Group]:
    """What is in quarantine, sorted by account, reason, event name, user and customer."""
    found = [*_requests(connection, filters), *_windows(connection, filters), *_events(connection, filters)]
    return sorted(_merged(found), key=_order)


def _requests(connection: sqlite3.Connection, filters: Filters) -> Iterable[Group]:
    clause = quarantine_filters.requests(connection, filters)
    names = f"JOIN origins o USING (origin_id) {NAMES}" if filters.any else ""
    for row in connection.execute(_REQUESTS.format(where=clause.where, names=names), clause.values):
        yield _group(row, (row[3],), (row[6],) if row[6] else ())


def _windows(connection: sqlite3.Connection, filters: Filters) -> Iterable[Group]:
    clause = quarantine_filters.windows(connection, filters)
    names = NAMES if filters.any else ""
    for row in connection.execute(_WINDOWS.format(where=clause.where, names=names), clause.values):
        yield _group(row, tuple(sorted((row[3] or "").split("\n"))) if row[3] else (), (row[6],))


def _events(connection: sqlite3.Connection, filters: Filters) -> Iterable[Group]:
    clause = quarantine_filters.events(connection, filters)
    known: dict[str, tuple[str | None, str, tuple[str, ...]]] = {}
    for row in connection.execute(_EVENTS.format(where=clause.where), clause.values).fetchall():
        series = sorted(set(row[3].split(","))) if row[3] else []
        for one in series:
            if one not in known:
                known[one] = _series(connection, int(one))
        told = [known[one] for one in series]
        fields = {field for field, _, _ in told}
        named = (*row[:5], fields.pop() if len(fields) == 1 else None, *row[6:])
        policies = sorted({policy for _, _, policies in told for policy in policies})
        yield _group(named, tuple(policies), tuple(sorted({user for _, user, _ in told})))


def _series(connection: sqlite3.Connection, series_id: int) -> tuple[str | None, str, tuple[str, ...]]:
    field, user = connection.execute(
        "SELECT metadata_field, user FROM series WHERE series_id = ?", (series_id,)
    ).fetchone()
    policies = connection.execute("SELECT policy FROM series_policies WHERE series_id = ?", (series_id,)).fetchall()
    return field, user, tuple(policy for (policy,) in policies)


def _group(row: tuple[Any, ...], policies: tuple[str, ...], users: tuple[str, ...]) -> Group:
    account, reason, code, _, event_name, field, _, customer = row[:8]
    requests, high, low, text, oldest, newest, since, book = row[11:]
    return Group(
        account=account,
        reason=Reason(reason),
        code=code,
        policies=policies,
        event_name=event_name,
        metadata_field=field or None,
        users=users,
        customer=customer,
        requests=requests,
        quantity=exact.total(high, low, text),
        oldest=oldest / _SECOND,
        newest=newest / _SECOND,
        since=since,
        mode=book.rpartition(" ")[2],
    )


def _alike(group: Group) -> tuple[object, ...]:
    return (
        group.account, group.reason, group.event_name, group.users, group.customer or "", group.code, group.policies,
        group.metadata_field or "", group.mode,
    )  # fmt: skip


def _order(group: Group) -> tuple[Any, ...]:
    return _alike(group)


def _merged(found: Iterable[Group]) -> list[Group]:
    """Groups that differ only in where they lie, or in further payload keys, added up."""
    merged: dict[tuple[object, ...], Group] = {}
    for group in found:
        alike = _alike(group)
        before = merged.get(alike)
        if before is not None:
            group = Group(
                *_head(group),
                before.requests + group.requests,
                amount.add(before.quantity, group.quantity),
                min(before.oldest, group.oldest),
                max(before.newest, group.newest),
                min(before.since, group.since),
                group.mode,
            )  # type: ignore[call-arg]
        merged[alike] = group
    return list(merged.values())


def _head(group: Group) -> tuple[Any, ...]:
    return (
        group.account, group.reason, group.code, group.policies, group.event_name, group.metadata_field, group.users,
        group.customer,
    )  # fmt: skip
