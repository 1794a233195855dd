"""A ledger with something of everything in it, closed as after a clean stop; and what it says."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from billing import CHAT, batch, record
from ledgers import Book, book
from traces import request as trace_request
from traces import settle_traces, trace_batch
from traces import span as trace_span

from otel_usageflow.extensions.sqlite_storage.proof import seal
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.model.outcome import Accepted, Refused, Retry
from otel_usageflow.model.usage import Reason, UsageRecord

NOON = 1_700_000_000 - 1_700_000_000 % 60
LATER = 2_000_000_000.0
"""When everything is due to be sealed."""

_COPIES = ("customers", "directories", "cursors", "series_policies")


async def fill(directory: Path, *, users: int = 20, events: int = 3) -> None:
    """Accepted, refused, unknown, waiting and split meter events; open and held windows; quarantine; seals."""
    everybody = {f"user-{n}": f"cus_{n}" for n in range(users)}
    async with book(directory) as open_book:
        await open_book.list_customers(everybody)
        for turn in range(events):
            start = NOON + 60 * turn
            await open_book.commit(
                batch(
                    *(record(user, at=start + n * 1.5, quantity=n) for n, user in enumerate(everybody)),
                    *(record("gone", at=start + n) for n in range(3)),
                    *(record(None, at=start + n, reason=Reason.NO_USER) for n in range(3)),
                    record("user-1", at=start + 2, quantity=_long(turn)),
                ),
                NOON,
            )
            frozen = await open_book.freeze(start + 60)
            if turn == 1:
                await open_book.ledger.begin_batches([frozen], start + 60)
            else:
                await open_book.ledger.begin(frozen, start + 60)
            for number, event in enumerate(frozen):
                outcome = {
                    3: Refused(Reason.REJECTED, "value out of range", "bad_value", "req_1"),
                    4: Retry("no answer", uncertain=True),
                }.get(number, Accepted(f"req_{number}"))
                await open_book.ledger.settle(event, outcome, start + 61)
                if number == 4:
                    await open_book.ledger.expire(event, start + 90_000)
        await open_book.commit(batch(*(record(user, at=NOON + 600) for user in everybody)), NOON)
        open_book.meters[("", "other")] = Formula.COUNT
        other = replace(CHAT, event_name="other")
        await open_book.commit(batch(*(record("user-2", at=NOON + 900 + n / 9, terms=other) for n in range(9))), NOON)
        await open_book.freeze(NOON + 1_000)
        await open_book.commit(batch(*(record(user, at=NOON + 2_000) for user in everybody)), NOON)
        await _traces(open_book)
        await open_book.commit(batch(*(_identified(n) for n in range(30))), NOON + 2_000)
        await open_book.storage.note_configuration({"processors": {}, "exporters": {}})
        await open_book.storage._writer.run(_seal, weight=0)
        await open_book.storage.upkeep.index()


async def _traces(open_book: Book) -> None:
    """Requests that were billed by their trace, a late span, and spans without a request."""
    terms, moment = replace(CHAT, quantity=None), NOON + 2_000
    for number in range(20):
        trace, ended = (9_000 + number).to_bytes(16, "big"), moment * 10**9
        spans = [
            trace_span(1, 90, entry=True, trace=trace, ended_ns=ended),
            trace_span(2, 1, tokens=number, trace=trace, ended_ns=ended),
        ]
        asked = [] if number > 15 else [trace_request(1, user="user-1", terms=terms, trace=trace, ended_ns=ended)]
        await open_book.commit(trace_batch(*spans, *asked), moment)
    await settle_traces(open_book, moment + 5)
    late = trace_span(3, 1, tokens=7, trace=(9_001).to_bytes(16, "big"), ended_ns=moment * 10**9)
    await open_book.commit(trace_batch(late), moment + 10)
    await settle_traces(open_book, moment + 15)


def _identified(number: int) -> UsageRecord:
    """One of three spans of a request: two with a user, one without."""
    user = None if number % 3 == 0 else "user-1"
    reason = Reason.NO_USER if user is None else None
    return record(user, at=NOON + 2_000 + number, reason=reason)._replace(
        request_id=(number // 3).to_bytes(16, "big")
    )


def _long(turn: int) -> int:
    return 10**15 + 7 if turn == 0 else 7


def _seal(connection: sqlite3.Connection) -> None:
    while sealing := seal.due(connection, LATER):
        if not seal.write(connection, sealing, LATER):
            break


def content(directory: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, but those that only repeat what Stripe or other rows say, and a mark of the past."""
    with closing(sqlite3.connect(directory / "ledger.db")) as connection:
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
            if name not in _COPIES
        ]
        # Whether an event with an answer was once uncertain decides about nothing any more.
        connection.execute("UPDATE meter_events SET uncertain = 0 WHERE state NOT IN (0, 1)")
        connection.execute("UPDATE held_windows SET held_at = 0")  # an age that is only shown
        connection.execute("UPDATE open_windows SET sealed = 0")  # a sealed window only leaves later usage to another
        connection.execute("UPDATE ledger SET seq = 0")  # it may be ahead: numbers of commits are only compared
        found = {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in sorted(tables)
        }
        connection.rollback()
        return found
