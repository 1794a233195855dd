"""`otel-usageflow reconcile`: the ledger against what Stripe says that it has counted."""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import add_config_arguments
from otel_usageflow.cli.books import Book, books
from otel_usageflow.cli.moments import parse_length, parse_moment, written
from otel_usageflow.cli.people import actor, confirmed, reason_of
from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.cli.reconcile_books import Asked, Result
    from otel_usageflow.ledger.reconcile import Difference

_EPILOG = """\
It compares, for each customer and meter that the ledger has meter events of, the ledger's sums with Stripe's
summaries: by UTC day, and where a day differs by hour and minute. Usage of the last hour, and hours in which
something was settled within the last hour, are left out: Stripe's summaries are late. Each customer and meter costs
one to three reads, which count against the account's allocation; what differs costs some ten more.

causes:
  lost               Stripe has less than it had accepted
  foreign            Stripe has more: another program sends to the meter, or an older backup was restored
  unknown_outcome    events of which nobody knows whether they were counted
  under_way          events that are being sent
  late_refusal       Stripe reported refusals that are not joined to their events yet
  cancellation       a cancelled event that still counts, or a cancellation without an answer
  counted_after_all  Stripe has counted what it had refused
  correction         a correction of that time is not carried out yet

--repair asks for corrections that make Stripe's sums what the ledger says; the service carries them out. Only what is
lost or foreign is mended, on meters that sum, within 35 days, and where nothing is in doubt.

exit status: 0 no difference, 2 Stripe or the ledger could not be read, 3 differences

examples:
  otel-usageflow reconcile --config usageflow.yaml
  otel-usageflow reconcile --config usageflow.yaml --since 2026-11-01 --customer cus_9s6XKzkNRiz8i3 --format json
  otel-usageflow reconcile --config usageflow.yaml --since 7d --repair
  otel-usageflow reconcile --config usageflow.yaml --not-counted uf_s1f_6d7e21... --because "not in the invoice"
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "reconcile",
        help="compare the ledger with what Stripe has counted",
        description="Compare the ledger with what Stripe says that it has counted, and tell each difference with its "
        "likely cause.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    moment = "a date, a time, unix seconds, or how long ago (24h, 7d); UTC"
    parser.add_argument("--since", metavar="T", help=f"{moment}; default: 35 days, or the beginning of the ledger")
    parser.add_argument("--until", metavar="T", help="default: an hour ago")
    parser.add_argument(
        "--settled",
        metavar="DURATION",
        default="1h",
        help="how long ago usage must have been settled to be compared, because summaries are late; default: 1h",
    )
    parser.add_argument("--customer", metavar="CUS", help="only this Stripe customer")
    parser.add_argument("--event-name", metavar="E", help="only this event name")
    parser.add_argument("--account", metavar="A", help="only this connected account")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.add_argument("--repair", action="store_true", help="ask for corrections of what can be mended")
    parser.add_argument("--yes", action="store_true", help="with --repair: do not ask")
    parser.add_argument("--counted", metavar="IDENTIFIER", help="an event of unknown outcome was counted")
    parser.add_argument("--not-counted", metavar="IDENTIFIER", help="it was not: it is sent again")
    parser.add_argument("--because", metavar="TEXT", help="why; kept in the audit log")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Compare, or take a person's word for an event."""
    if arguments.counted is not None or arguments.not_counted is not None:
        return _decide(arguments)
    from otel_usageflow.cli.reconcile_books import Asked
    from otel_usageflow.cli.reconcile_output import show

    now = time.time()
    asked = Asked(
        since=parse_moment(arguments.since, "--since") if arguments.since else None,
        until=parse_moment(arguments.until, "--until") if arguments.until else None,
        account=arguments.account,
        event_name=arguments.event_name,
        customer=arguments.customer,
        now=now,
        settled_for=parse_length(arguments.settled, "--settled"),
    )
    results = [_compare(book, asked) for book in books(arguments)]
    show(results, arguments.format)
    found = [one for result in results for one in result.differences]
    if found and arguments.repair:
        return 0 if _repair(results, arguments, now) else 3
    return 3 if found else 0


def _compare(book: Book, asked: "Asked") -> "Result":
    from otel_usageflow.cli.reconcile_books import compare

    return asyncio.run(compare(book, asked))


def _repair(results: "list[Result]", arguments: argparse.Namespace, now: float) -> bool:
    """Ask for corrections of what can be mended; whether that was everything."""
    from otel_usageflow.cli.adjust import follow
    from otel_usageflow.extensions.sqlite_storage.correction.adjust import Asker
    from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments
    from otel_usageflow.ledger.amount import negative, plain
    from otel_usageflow.ledger.correction import TELL_FOR

    mended = [
        (result.book, one)
        for result in results
        for one in result.differences
        if one.correctable and one.timestamp > now - TELL_FOR and not _is_shared(result.book, one)
    ]
    every = sum(len(result.differences) for result in results)
    if not mended:
        sys.stderr.write("None of this can be mended by a further meter event; see the remedies.\n")
        return False
    sys.stderr.write("These meter events would make Stripe's sums what the ledger says:\n")
    for _, one in mended:
        value = plain(negative(one.difference))
        sys.stderr.write(
            f"  {one.pair.event_name} {one.pair.customer} {value} at {written(one.timestamp)} ({one.cause})\n"
        )
    if not confirmed("Is nothing else going to send or count them, and shall they be sent?", yes=arguments.yes):
        return False
    why = arguments.because or "reconcile --repair"
    filed: dict[Path, list[int]] = {}
    for book, one in mended:
        adjustments = Adjustments(book.directory)
        number = adjustments.account_numbers(one.pair.account, one.pair.event_name)[book.name]
        asker = Asker(actor(), f"{why} ({one.cause})", time.time(), origin="reconcile")
        corrects = one.events[0] if len(one.events) == 1 else None
        wanted = negative(one.difference)
        asked = adjustments.correct_usage(number, one.pair, wanted, one.timestamp, asker, corrects)
        filed.setdefault(book.directory, []).extend(asked.numbers)
    for directory, numbers in filed.items():
        for correction in follow(Adjustments(directory), numbers):
            sys.stderr.write(
                f"correction {correction.number}: {correction.state}; {correction.message or ''}".rstrip("; ") + "\n"
            )
    return len(mended) == every


def _is_shared(book: Book, difference: "Difference") -> bool:
    """Whether another exporter of this ledger feeds the same meter: what looks foreign may be usage of that one."""
    from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments

    pair = difference.pair
    return len(Adjustments(book.directory).account_numbers(pair.account, pair.event_name)) > 1


def _decide(arguments: argparse.Namespace) -> int:
    """A person says whether an event was counted."""
    from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments

    if arguments.counted is not None and arguments.not_counted is not None:
        raise UsageError("reconcile: give --counted or --not-counted, not both")
    identifier = arguments.counted if arguments.counted is not None else arguments.not_counted
    why = reason_of(arguments.because)
    ledgers = [
        Adjustments(one) for one in dict.fromkeys(book.directory for book in books(arguments, need_secrets=False))
    ]
    chosen = next((ledger for ledger in ledgers if ledger.has_event(identifier)), ledgers[0])
    counted = arguments.counted is not None
    name = chosen.decide(identifier, counted=counted, actor=actor(), why=why, now=time.time())
    if counted:
        sys.stdout.write(f"{name}: counted\n")
    else:
        sys.stdout.write(f"{identifier}: not counted; see what becomes of it with: explain --event {name}\n")
    return 0
