"""Comparing one book with Stripe from the command line: all that the ledger has, with progress on a terminal."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_usageflow.cli.books import Book
from otel_usageflow.cli.connect_access import connected_access
from otel_usageflow.cli.progress import ProgressLine
from otel_usageflow.errors import StartError
from otel_usageflow.exporters.stripe_meter.answers import explained
from otel_usageflow.exporters.stripe_meter.api import StripeApi, connect
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.recognition import is_another
from otel_usageflow.exporters.stripe_meter.reconcile import Comparer, NotComparable, meters_of
from otel_usageflow.exporters.stripe_meter.summaries import ReadPace, Summaries
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments
from otel_usageflow.extensions.sqlite_storage.flow.identity import known_in
from otel_usageflow.ledger.charge import STRIPE_PAST
from otel_usageflow.ledger.identity import AnotherAccount
from otel_usageflow.ledger.reconcile import HOUR, SETTLED_FOR, Difference, Only, Pair, Stretch, Tally, stretches

_READS_PER_SECOND = 10.0
"""Well below Stripe's limits of 25 (sandbox) and 100 (live), which all programs of an account share."""
_TELL_FROM = 200
"""Reads from which on an estimate is told before they begin."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be compared. Times are unix seconds."""

    now: float
    since: float | None = None
    until: float | None = None
    account: str | None = None
    event_name: str | None = None
    customer: str | None = None
    settled_for: float = SETTLED_FOR
    """Seconds after which Stripe's summaries are taken to include an event."""


@dataclass(slots=True)
class Result:
    """What came of comparing a book."""

    book: Book
    since: int = 0
    until: int = 0
    pairs: int = 0
    reads: int = 0
    left_out: int = 0
    differences: list[Difference] = field(default_factory=list)
    not_comparable: list[tuple[Pair, str]] = field(default_factory=list)


async def compare(book: Book, asked: Asked) -> Result:
    """Compare everything that was asked for.

    Raises:
        StartError: Stripe or the ledger cannot be read.
    """
    sums = Adjustments(book.directory).sums(book.name)
    beginning = await sums.beginning()
    result = Result(book)
    latest = asked.now - asked.settled_for
    if asked.settled_for < HOUR:  # then the hour that is not over yet is of interest
        latest = -(-asked.now // HOUR) * HOUR
    result.until = int(min(asked.until if asked.until is not None else latest, latest)) // HOUR * HOUR
    if beginning is None:
        return result
    earliest = max(beginning // HOUR * HOUR, int(asked.now - STRIPE_PAST) // HOUR * HOUR)
    result.since = int(asked.since) // HOUR * HOUR if asked.since is not None else earliest
    if result.since < beginning // HOUR * HOUR:
        sys.stderr.write("The ledger does not have that much: it is compared from its beginning on.\n")
        result.since = beginning // HOUR * HOUR
    only = Only(asked.account, asked.event_name, asked.customer)
    tallied = {stretch: await sums.tallies(stretch, only) for stretch in stretches(result.since, result.until)}
    found = {pair for by_pair in tallied.values() for pair in by_pair}
    if asked.customer is not None and asked.event_name is not None:  # also if the ledger has nothing of them
        found.add(Pair(asked.account or book.config.account or "", asked.event_name, asked.customer))
    pairs = sorted(found)
    estimate = sum(1 + (stretch.end - stretch.start) // stretch.width // 100 for stretch in tallied) * len(pairs)
    if estimate >= _TELL_FROM:
        sys.stderr.write(
            f"About {estimate:,} reads of Stripe for {len(pairs):,} customers and meters, {estimate / 600:.0f} "
            "minutes; Stripe allows at least 10,000 a month and account.\n"
        )
    try:
        access = connected_access(book.exporter, book.config, book.directory)
        async with connect(book.config, access=access) as api:
            comparer = Comparer(
                sums,
                Summaries(api, ReadPace(_READS_PER_SECOND, per_hour=36_000)),
                lambda: asked.now,
                book.config.retry_on_failure.backoff,
                settled_for=asked.settled_for,
            )
            await refuse_another_account(book, api)
            await _compare_all(comparer, api, pairs, tallied, result)
            result.reads = comparer.reads
    except StripeFailure as error:
        raise StartError(
            f"exporters::{book.exporter}: Stripe cannot be read: {explained(error)}; "
            "the comparison was not finished. Try again when Stripe answers; the key must be able to read meters "
            "and customers"
        ) from error
    result.pairs = len(pairs)
    return result


async def refuse_another_account(book: Book, api: StripeApi) -> None:
    """Compare nothing with an account that has never got any of it.

    Raises:
        AnotherAccount: the key's own account is not the one of the ledger.
        StripeFailure: nobody knows.
    """
    known = known_in(book.directory, book.name, "")
    if known and await is_another(api, known, await api.meters("")):
        raise AnotherAccount


async def _compare_all(
    comparer: Comparer,
    api: StripeApi,
    pairs: list[Pair],
    tallied: Mapping[Stretch, Mapping[Pair, Mapping[int, Tally]]],
    result: Result,
) -> None:
    meters: dict[str, list[Meter]] = {}
    silent: dict[str, str] = {}
    failure: Exception | None = None
    with ProgressLine() as progress:
        for done, pair in enumerate(pairs):
            progress("comparing", done, len(pairs))
            if pair.account in silent:
                result.not_comparable.append((pair, silent[pair.account]))
                continue
            if pair.account not in meters:
                try:
                    meters[pair.account] = await api.meters(pair.account)
                except StripeFailure as error:
                    if not pair.account:
                        raise
                    failure = error  # one company whose account is gone keeps nobody else's from being compared
                    silent[pair.account] = f"its account cannot be read: {explained(error)}"
                    result.not_comparable.append((pair, silent[pair.account]))
                    continue
            expected = {stretch: found.get(pair, {}) for stretch, found in tallied.items()}
            try:
                compared = await comparer.compare(pair, meters_of(pair, meters[pair.account]), expected)
            except NotComparable as error:
                result.not_comparable.append((pair, str(error)))
                continue
            result.differences.extend(compared.differences)
            result.left_out += compared.left_out
    if failure is not None and not meters:
        raise failure
