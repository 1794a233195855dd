"""`otel-usageflow usage adjust`: corrections of what was billed, asked for here and carried out by the service."""

import argparse
import sys
import time
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import add_config_arguments
from otel_usageflow.cli.books import books
from otel_usageflow.cli.moments import parse_moment, written
from otel_usageflow.cli.output import console, shown, table, write_json
from otel_usageflow.cli.people import actor, reason_of
from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.extensions.sqlite_storage.correction.adjust import Asked, Asker
    from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments
    from otel_usageflow.ledger.correction import Correction
    from otel_usageflow.model.usage import Quantity

_EPILOG = """\
how a correction is carried out:
  a whole meter event, within 24 hours   Stripe's cancel
  a meter that sums, within 35 days      a further meter event, negative or positive, at the time of what it corrects
  anything else                          a note that says what to credit or charge by hand
An invoice that is finalized does not change any more: credit by hand what is on it.

where a correction stands:
  asked        written down; the message says what it waits for
  cancelling   Stripe was asked to cancel, and has not answered for certain
  unclear      only the meter's summary can tell whether it was cancelled; that takes an hour
  sending      told in a meter event that has no answer yet
  cancelled, billed   done
  by_hand      a person must do it in Stripe; the message says what
  void         there was nothing to correct

examples:
  otel-usageflow usage adjust --config usageflow.yaml --event uf_s1f_6d7e21... --because "load test"
  otel-usageflow usage adjust --config usageflow.yaml --event uf_s1f_6d7e21... --quantity -3 --because "refund 77"
  otel-usageflow usage adjust --config usageflow.yaml --customer cus_9s6XKzkNRiz8i3 --event-name api_request \\
      --at 2026-11-20T14:00:00Z --quantity -120 --because "outage of 20 November"
  otel-usageflow usage adjust --config usageflow.yaml --list

exit status: 0 asked for, and done if a service runs; 1 it cannot be corrected, and the message says why
"""

_UNTOUCHED = 4.0
"""Seconds after which nobody seems to take a correction up."""
_PATIENCE = 10.0


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command below `usage`."""
    parser = subparsers.add_parser(
        "adjust",
        help="correct what was billed",
        description="Correct what was billed. Corrections are added; nothing that was written down is changed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument("--event", metavar="IDENTIFIER", help="the meter event to correct; alone, undo all of it")
    parser.add_argument("--quantity", metavar="N", help="what to add; negative (--quantity -3) takes off")
    parser.add_argument("--customer", metavar="CUS", help="without --event: the Stripe customer")
    parser.add_argument("--user", metavar="U", help="without --event: the user, as in the spans, for the customer")
    parser.add_argument("--event-name", metavar="E", help="without --event: the meter's event name")
    parser.add_argument("--account", metavar="A", help="without --event: the connected account, if any")
    parser.add_argument("--at", metavar="T", help="without --event: when the usage was; decides the billing period")
    parser.add_argument("--because", metavar="TEXT", help="why; kept in the audit log")
    parser.add_argument("--again", action="store_true", help="although the same correction was asked for before")
    parser.add_argument("--list", action="store_true", help="show all corrections, and where they stand")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Ask for a correction, or list them."""
    from otel_usageflow.extensions.sqlite_storage.correction.adjust import Asker
    from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments

    of_event = arguments.event is not None
    if arguments.list:
        directories = dict.fromkeys(book.directory for book in books(arguments, need_secrets=False))
        _show([one for directory in directories for one in Adjustments(directory).listed()], arguments.format)
        return 0
    others = [arguments.customer, arguments.user, arguments.event_name, arguments.at, arguments.account]
    if of_event and any(one is not None for one in others):
        raise UsageError("usage adjust: --event says already whose usage it is and when; leave the others out")
    asker = Asker(actor(), reason_of(arguments.because), time.time(), again=arguments.again)
    quantity = _quantity(arguments.quantity)
    adjustments, asked = _of_event(arguments, quantity, asker) if of_event else _of_usage(arguments, quantity, asker)
    for warning in asked.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    _show(follow(adjustments, asked.numbers), arguments.format)
    return 0


def follow(adjustments: "Adjustments", numbers: Sequence[int]) -> "list[Correction]":
    """Wait a little for what becomes of new corrections, and say so when no service takes them up."""
    from otel_usageflow.ledger.correction import SETTLED, CorrectionState

    began = time.monotonic()
    while True:
        found = adjustments.listed(numbers)
        waited = time.monotonic() - began
        if all(one.state in SETTLED for one in found) or waited > _PATIENCE:
            return found
        untouched = all(one.state is CorrectionState.ASKED and one.message is None for one in found)
        if untouched and waited > _UNTOUCHED:
            sys.stderr.write("Nobody has taken it up yet: it is carried out when the service runs on this ledger.\n")
            return found
        time.sleep(0.2)


def _of_event(
    arguments: argparse.Namespace, quantity: "Quantity | None", asker: "Asker"
) -> "tuple[Adjustments, Asked]":
    from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments

    ledgers = [
        Adjustments(one) for one in dict.fromkeys(book.directory for book in books(arguments, need_secrets=False))
    ]
    chosen = next((ledger for ledger in ledgers if ledger.has_event(arguments.event)), ledgers[0])
    return chosen, chosen.correct_event(arguments.event, quantity, asker)


def _of_usage(
    arguments: argparse.Namespace, quantity: "Quantity | None", asker: "Asker"
) -> "tuple[Adjustments, Asked]":
    from otel_usageflow.extensions.sqlite_storage.correction.adjustments import Adjustments
    from otel_usageflow.ledger.reconcile import Pair

    if arguments.event_name is None or arguments.at is None or quantity is None:
        raise UsageError(
            "usage adjust: give --event IDENTIFIER, or --event-name, --at, --quantity, and whose usage it is"
        )
    if (arguments.customer is None) == (arguments.user is None):
        raise UsageError("usage adjust: say whose usage it is, with --customer CUS or --user U")
    at = int(parse_moment(arguments.at, "--at"))
    found = []
    for book in books(arguments):
        adjustments = Adjustments(book.directory)
        account = arguments.account or book.config.account or ""
        number = adjustments.account_numbers(account, arguments.event_name).get(book.name)
        if number is not None:
            found.append((adjustments, number, account))
    if not found:
        raise UsageError(f"--event-name: the ledger has no usage under {arguments.event_name!r} in this account")
    if len(found) > 1:
        raise UsageError(f"--event-name: several exporters bill {arguments.event_name!r}; use --event, or --account")
    adjustments, number, account = found[0]
    customer = arguments.customer or _customer(adjustments, number, arguments.event_name, arguments.user)
    pair = Pair(account, arguments.event_name, customer)
    return adjustments, adjustments.correct_usage(number, pair, quantity, at, asker)


def _customer(adjustments: "Adjustments", number: int, event_name: str, user: str) -> str:
    customers = adjustments.customers_of(number, event_name, user)
    if len(customers) != 1:
        why = "no customer" if not customers else f"several customers ({', '.join(customers)})"
        raise UsageError(f"--user: the ledger knows {why} for {user!r} under {event_name!r}; give --customer")
    return customers[0]


def _quantity(text: str | None) -> "Quantity | None":
    from otel_usageflow.ledger.amount import normal

    if text is None:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or len(text) > 40 or abs(value.adjusted()) > 40:
        raise UsageError(f"--quantity: {text!r} is no number that Stripe takes")
    return normal(value)


def _values(one: "Correction") -> dict[str, object]:
    from otel_usageflow.ledger.amount import plain

    return {
        "correction": one.number,
        "account": one.pair.account or None,
        "event_name": one.pair.event_name,
        "customer": one.pair.customer,
        "quantity": plain(one.quantity),
        "at": written(one.timestamp),
        "corrects": one.corrected.identifier if one.corrected is not None else None,
        "state": str(one.state),
        "message": one.message,
        "meter_event": one.event_identifier,
        "because": one.why,
        "actor": one.actor,
        "asked_at": written(one.asked_at),
        "settled_at": written(one.settled_at) if one.settled_at is not None else None,
    }


_COLUMNS = ("correction", "event_name", "customer", "quantity", "at", "state", "actor")


def _show(corrections: "Sequence[Correction]", form: str) -> None:
    if form == "json":
        write_json({"corrections": [_values(one) for one in corrections]})
        return
    if not corrections:
        console().print("No corrections.")
        return
    printed = table(*(name.replace("_", " ") for name in _COLUMNS), numbers=("correction", "quantity"))
    for one in corrections:
        values = _values(one)
        printed.add_row(*(shown("" if values[name] is None else str(values[name])) for name in _COLUMNS))
    console().print(printed)
    for one in corrections:
        of = f"{one.corrected.identifier}, " if one.corrected is not None else ""
        told = f" -> {one.message}" if one.message else ""
        console().print(f"correction {one.number}: {shown(f'{of}because: {one.why}{told}')}", soft_wrap=True)
