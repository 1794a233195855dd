"""Doubts about what Stripe has counted: where they lie, what is asked, and what Stripe reported late."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple, Protocol

from otel_usageflow.ledger.judge import Candidate, Known


class Place(NamedTuple):
    """What one summary is asked for: a customer's usage under an event name in a UTC minute (unix seconds)."""

    account: str
    event_name: str
    customer: str
    minute: int


@dataclass(frozen=True, slots=True)
class Question:
    """What the ledger knows about a place, and what it does not.

    Candidates are events of unknown outcome, and the `suspects`: those that Stripe took, but that may be among the
    errors of a report (event id -> report and code) that did not name them all.
    """

    place: Place
    known: Known
    candidates: tuple[Candidate, ...]
    suspects: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    apart: frozenset[int] = frozenset()
    """Candidates that nothing is concluded about: perhaps cancelled, or of another exporter."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """What became of a question: identifiers of events."""

    counted: tuple[str, ...] = ()
    """Were of unknown outcome and are accepted now."""
    resent: tuple[str, ...] = ()
    """Were not counted, and are sent again under these."""
    too_old: tuple[str, ...] = ()
    """Were not counted, and cannot be sent any more."""
    rejected: tuple[str, ...] = ()
    """Had been taken, and were not counted."""
    open: tuple[str, ...] = ()
    """Nothing certain can be said about these."""


@dataclass(frozen=True, slots=True)
class ErrorSample:
    """One error that a report shows. `key` is the idempotency key of the request."""

    key: str
    message: str


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """What Stripe says about events that it had taken and did not count, for one code. Times are unix seconds.

    Source: `v1.billing.meter.error_report_triggered` and `v1.billing.meter.no_meter_found`. `event_name` is empty
    where the meter is not known. `errors` may be more than there are samples.
    """

    report: str
    code: str
    event_name: str
    message: str
    validation_start: float
    validation_end: float
    errors: int
    samples: tuple[ErrorSample, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenReport:
    """A report that told of more errors than it showed, and whose rest has not been found yet."""

    report: str
    code: str
    event_name: str
    validation_end: float
    missing: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that Stripe had taken, and has not counted."""

    identifier: str
    event_name: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Read:
    """What was new in reports: samples that are ours, and those that are not."""

    ours: int = 0
    others: int = 0
    more: int = 0
    """Reports with more errors than samples."""


class Doubts(Protocol):
    """The part of a ledger that settles what sending left open. Every method is one transaction."""

    async def doubtful(self, account: str) -> list[Place]:
        """Where there are events of unknown outcome, oldest first."""

    async def open_reports(self, account: str) -> list[OpenReport]:
        """Reports whose errors were not all named, and not all found yet."""

    async def suspected(self, account: str, report: OpenReport, limit: int) -> list[Place]:
        """Where there are events that a report may be about, at most `limit` places."""

    async def question(self, place: Place, now: float, delay: float) -> Question | None:
        """What to ask about a place; None while something of it is under way, or younger than `delay` seconds."""

    async def conclude(
        self, asked: Question, verdict: Mapping[int, bool], reported: Decimal, now: float, delay: float
    ) -> Concluded | None:
        """Write down what a summary has shown, in the state and in the audit log.

        None, and nothing is written, if the place has changed since it was asked about.
        """

    async def report_cursor(self, account: str) -> str | None:
        """Stripe's `created` of the last report that was read, as RFC 3339; at first when the first event was made.

        None where there are no events either.
        """

    async def take_reports(
        self, account: str, reports: Sequence[ErrorReport], created: str | None, now: float
    ) -> Read:
        """Take reports, those that are there already only once, and remember up to where they were read."""

    async def apply_reports(self, account: str, now: float) -> tuple[list[Rejected], bool]:
        """Take back the events that reports name, once they have an answer; whether some still wait for that."""

    async def close_report(self, report: OpenReport, now: float) -> None:
        """Nothing more is to be found for a report."""

    async def open_counts(self) -> tuple[int, int]:
        """Events of unknown outcome, and reports that are open, in the whole book."""
