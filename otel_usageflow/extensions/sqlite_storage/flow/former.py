"""Leaves out of a batch what was billed under the terms that its policy had before; see `ledger/former.py`."""

import sqlite3
from collections.abc import Collection
from dataclasses import replace

from otel_usageflow.extensions.sqlite_storage.flow.request_ids import request_of
from otel_usageflow.extensions.sqlite_storage.flow.trace_rows import bounds
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.ledger.charge import charge_key
from otel_usageflow.ledger.former import Filed, Former, filed
from otel_usageflow.model.usage import UsageBatch, UsageRecord

_PLACES = """
SELECT DISTINCT p.policy, a.account, m.event_name
FROM (SELECT DISTINCT policy, meter_id FROM series_policies JOIN series USING (series_id)) p
JOIN meters m USING (meter_id) JOIN accounts a USING (account_id) WHERE a.book = ?
"""
_BILLED = """
SELECT 1 FROM records JOIN origins USING (origin_id) WHERE key = :key AND quantity IS NOT NULL AND policy = :policy
UNION ALL
SELECT 1 FROM traces JOIN trace_requests r USING (trace_no) JOIN origins USING (origin_id)
WHERE trace_id >= :trace_id AND trace_id <= :last AND traces.book_id = :book
  AND span_id = :span_id AND meter_id = :meter_id
  AND reason IS NULL AND policy = :policy
LIMIT 1
"""
# Another span of the request was billed, or this one was known to be the same as another.
_SAME_REQUEST = """
SELECT 1 FROM request_ids i JOIN records r USING (key) JOIN origins USING (origin_id) JOIN series USING (series_id)
WHERE i.request = :request AND user = :user AND policy = :policy AND (r.quantity IS NOT NULL OR i.same_as IS NOT NULL)
LIMIT 1
"""


def places(connection: sqlite3.Connection, book: str, policies: Collection[str]) -> list[Filed]:
    """Where policies of these names have billed, as far as the ledger reaches."""
    rows = (Filed(*row) for row in connection.execute(_PLACES, (book,)))
    return [place for place in rows if place.policy in policies]


def without_known(connection: sqlite3.Connection, names: Names, batch: UsageBatch, former: Former) -> UsageBatch:
    """The batch without requests that their policy has billed elsewhere."""

    def is_new(record: UsageRecord) -> bool:
        if not former.after_ns < record.ended_ns < former.before_ns:
            return True
        rivals = former.others.get(filed(record.terms), ())
        return not any(_is_billed(connection, names, record, rival) for rival in rivals)

    return replace(
        batch,
        records=[record for record in batch.records if is_new(record)],
        trace_requests=[request for request in batch.trace_requests if is_new(request.record)],
    )


def _is_billed(connection: sqlite3.Connection, names: Names, record: UsageRecord, rival: Filed) -> bool:
    meter_id = names.meter(connection, rival.account, rival.event_name)
    wanted = {
        "key": charge_key(meter_id, record.trace_id, record.span_id, record.ended_ns),
        "policy": rival.policy,
        **dict(zip(("trace_id", "last"), bounds(record.trace_id), strict=True)),
        "book": names.book(connection),
        "span_id": record.span_id,
        "meter_id": meter_id,
    }
    if connection.execute(_BILLED, wanted).fetchone() is not None:
        return True
    if not record.request_id:
        return False
    same = {"request": request_of(meter_id, record.request_id), "user": record.user, "policy": rival.policy}
    return connection.execute(_SAME_REQUEST, same).fetchone() is not None
