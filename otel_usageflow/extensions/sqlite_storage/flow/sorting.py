"""From usage records to rows of the ledger: one pass gives each its key and its numbers, and tells the unbillable.

It runs for every record, with the interpreter's lock, so it asks once for what neighbours have in common.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from otel_usageflow.extensions.sqlite_storage.flow import request_ids
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.ledger import amount
from otel_usageflow.ledger.charge import meter_part, second_of, second_part
from otel_usageflow.model.usage import Quantity, Reason, Terms, UsageRecord

_FEW = 8
"""Records below which users are looked up one by one."""
_SECOND = 1_000_000_000

Row = tuple[bytearray, int, int, int, int | str]
"""A billable record: key, series, origin, the moment that is billed, the quantity as it is stored.

The key is a bytearray because of what bytes cost, see `rows.execute_rows`.
"""


class Unbillable(NamedTuple):
    """A record that is clear to be unbillable, with its numbers."""

    key: bytes
    series_id: int
    origin_id: int
    record: UsageRecord
    reason: Reason


class Sorted(NamedTuple):
    """The records of a commit."""

    billable: dict[bytes, Row]
    strays: list[bytes]
    """Of these, the ones that are billed in another second than that of their key."""
    unbillable: list[Unbillable]
    ids: dict[bytes, bytes]
    """The requests of those that carry an id."""


def sort_out(connection: sqlite3.Connection, names: Names, records: Sequence[UsageRecord], oldest: float) -> Sorted:
    """Give every record its numbers, and tell the billable from the unbillable, as what is older than `oldest`."""
    oldest_ns = int(oldest * _SECOND)
    sorted_out = billable, strays, unbillable, ids = Sorted({}, [], [], {})
    met = False
    terms: Terms | None = None
    payload: tuple[tuple[str, str], ...] = ()
    source: str | None = None
    begin = end = 0
    quantity: Quantity | None = None
    stored: int | str | None = None
    for record in records:
        trace_id, span_id, ended_ns, at_ns, terms_, user, source_, quantity_, payload_, reason, _, request_id = record
        # Neighbours mostly have all of this in common.
        if terms_ is not terms or payload_ != payload or source_ != source:
            terms, payload, source = terms_, payload_, source_
            meter_id = names.meter(connection, terms.account or "", terms.event_name)
            of_meter = meter_part(meter_id)
            origin_id = names.origin(connection, terms.policy, source)
            series = names.series_of(meter_id, terms, payload)
        if not begin <= ended_ns < end:
            of_second = second_part(ended_ns)
            begin = second_of(of_second) * _SECOND
            end = begin + _SECOND
        if quantity_ is not quantity:
            quantity = quantity_
            stored = None if quantity is None else amount.stored(quantity)
        key = of_second + trace_id + span_id + of_meter
        series_id = series.get(user or "")
        if series_id is None:
            if not met:
                met = True
                _meet_users(connection, names, records)
            series_id = names.series(connection, meter_id, terms, user, payload)
            series = names.series_of(meter_id, terms, payload)
        if reason is None and at_ns < oldest_ns:
            reason = Reason.TOO_OLD
        if reason is not None:
            unbillable.append(Unbillable(key, series_id, origin_id, record, reason))
        elif key not in billable:
            assert stored is not None  # a record without a reason has a quantity
            billable[key] = (bytearray(key), series_id, origin_id, at_ns, stored)
            if not begin <= at_ns < end:
                strays.append(key)
        if request_id:
            ids[key] = request_ids.request_of(meter_id, request_id)
    return sorted_out


def _meet_users(connection: sqlite3.Connection, names: Names, records: Sequence[UsageRecord]) -> None:
    """Get to know the users that are new, where they are many, all at once."""
    if len(records) < _FEW:
        return
    new: dict[tuple[int, Terms, tuple[tuple[str, str], ...]], dict[str, None]] = {}
    terms: Terms | None = None
    payload: tuple[tuple[str, str], ...] = ()
    for record in records:
        if record.terms is not terms or record.payload != payload:
            terms, payload = record.terms, record.payload
            meter_id = names.meter(connection, terms.account or "", terms.event_name)
            known = names.series_of(meter_id, terms, payload)
        if (user := record.user or "") not in known:
            new.setdefault((meter_id, terms, payload), {})[user] = None
    for (meter_id, terms, payload), users in new.items():
        names.meet(connection, meter_id, terms, list(users), payload)
