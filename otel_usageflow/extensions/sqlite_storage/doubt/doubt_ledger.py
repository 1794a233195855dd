"""The part of the SQLite ledger that settles what sending left open; `ledger.doubt.Doubts` has what is promised."""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol, TypeVar

from otel_usageflow.extensions.sqlite_storage.doubt import doubts, reports
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.ledger.doubt import Concluded, ErrorReport, OpenReport, Place, Question, Read, Rejected

T = TypeVar("T")


class Runs(Protocol):
    """Runs something on a connection."""

    def __call__(self, work: Callable[[sqlite3.Connection], T], /) -> Awaitable[T]:
        """Return what it returns."""


class SqliteDoubts:
    """Doubts of one book. `change` runs in the writer's thread, `look` beside it."""

    def __init__(self, change: Runs, look: Runs, names: Names, book: str) -> None:
        self._change = change
        self._look = look
        self._names = names
        self._book = book

    async def doubtful(self, account: str) -> list[Place]:
        """Where there are events of unknown outcome, oldest first."""
        return await self._look(lambda c: doubts.doubtful(c, self._book, account))

    async def open_reports(self, account: str) -> list[OpenReport]:
        """Reports whose errors were not all named, and not all found yet."""
        return await self._look(lambda c: doubts.open_reports(c, self._book, account))

    async def suspected(self, account: str, report: OpenReport, limit: int) -> list[Place]:
        """Where there are events that a report may be about, at most `limit` places."""
        return await self._look(lambda c: doubts.suspected(c, self._book, account, report, limit))

    async def question(self, place: Place, now: float, delay: float) -> Question | None:
        """What to ask about a place; None while something of it is under way, or younger than `delay` seconds."""
        return await self._look(lambda c: doubts.question(c, self._book, place, now, delay))

    async def conclude(
        self, asked: Question, verdict: Mapping[int, bool], reported: Decimal, now: float, delay: float
    ) -> Concluded | None:
        """Write down what a summary has shown, in the state and in the audit log."""
        return await self._change(lambda c: doubts.conclude(c, self._book, asked, verdict, reported, now, delay))

    async def report_cursor(self, account: str) -> str | None:
        """Stripe's `created` of the last report that was read, as Stripe wrote it."""
        return await self._change(lambda c: reports.cursor(c, self._names.account(c, account)))

    async def take_reports(self, account: str, found: Sequence[ErrorReport], created: str | None, now: float) -> Read:
        """Take reports, those that are there already only once, and remember up to where they were read."""
        return await self._change(lambda c: reports.take(c, self._names.account(c, account), found, created, now))

    async def apply_reports(self, account: str, now: float) -> tuple[list[Rejected], bool]:
        """Take back the events that reports name, once they have an answer; whether some still wait for that."""
        return await self._change(lambda c: reports.apply(c, self._names.account(c, account), now))

    async def close_report(self, report: OpenReport, now: float) -> None:
        """Nothing more is to be found for a report."""
        await self._change(lambda c: reports.close(c, report.report, report.code, now))

    async def open_counts(self) -> tuple[int, int]:
        """Events of unknown outcome, and reports that are open, in the whole book."""
        return await self._look(lambda c: (doubts.unknown_count(c, self._book), reports.open_count(c, self._book)))
