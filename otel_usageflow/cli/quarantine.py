"""`otel-usageflow quarantine`: what could not be billed, and what people decide about it."""

import argparse
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from otel_usageflow.cli import quarantine_change, quarantine_list
from otel_usageflow.cli.arguments import Parser, add_config_arguments, parse_trace_id
from otel_usageflow.cli.ledgers import directories
from otel_usageflow.cli.moments import parse_moment
from otel_usageflow.errors import UsageError
from otel_usageflow.model.usage import Reason

if TYPE_CHECKING:
    from otel_usageflow.extensions.sqlite_storage.quarantine.desk import Quarantine
    from otel_usageflow.ledger.quarantine import Filters

_EPILOG = """\
examples:
  otel-usageflow quarantine list --config usageflow.yaml
  otel-usageflow quarantine release --config usageflow.yaml --reason rejected --customer cus_N1
  otel-usageflow quarantine discard --config usageflow.yaml --policy health --because "no customer traffic"

Each subcommand has --help of its own.
"""
_LIST = """\
examples:
  otel-usageflow quarantine list --config usageflow.yaml --reason no_customer --format csv
  otel-usageflow quarantine list --config usageflow.yaml --reason no_user --entries --limit 20
"""
_RELEASE = """\
What waits for a customer or a meter, and what Stripe has refused, is decided about or sent again. A request without
a user, or without a valid quantity, is billed as you decide, once, also if its span comes again.

examples:
  otel-usageflow quarantine release --config usageflow.yaml --reason rejected --since 7d
  otel-usageflow quarantine release --config usageflow.yaml --reason no_user --policy chat --as-user acme
  otel-usageflow quarantine release --config usageflow.yaml --reason bad_quantity --user acme --quantity 1 --yes
"""
_DISCARD = """\
What is discarded is never billed, also if its span comes again. It stays in the ledger and in reports as discarded.

examples:
  otel-usageflow quarantine discard --config usageflow.yaml --reason too_old --because "credited on invoice 0042"
  otel-usageflow quarantine discard --config usageflow.yaml --policy health --because "probes" --yes
"""

_MOST_USER = 500


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command with its subcommands."""
    parser = subparsers.add_parser(
        "quarantine",
        help="show what could not be billed, release it or discard it",
        description="Show what could not be billed yet, release it, or decide that it is not billed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_no_subcommand)
    inner = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND", parser_class=Parser)
    listing = _subcommand(inner, "list", "show what is in quarantine, since when, and what to do", _LIST)
    listing.add_argument("--entries", action="store_true", help="single requests instead of groups")
    listing.add_argument("--limit", metavar="N", type=int, help="with --entries: at most N; default: 100")
    listing.add_argument("--format", choices=("table", "json", "csv"), default="table", help="default: table")
    listing.set_defaults(run=_list)
    releasing = _subcommand(inner, "release", "bill what can be billed now", _RELEASE)
    releasing.add_argument("--as-user", metavar="USER", help="the user of requests that have none: your decision")
    releasing.add_argument("--quantity", metavar="N", help="the quantity of requests without a valid one")
    releasing.add_argument("--because", metavar="TEXT", default="", help="why; kept in the audit log")
    releasing.add_argument("--yes", action="store_true", help="do not ask")
    releasing.set_defaults(run=_release)
    discarding = _subcommand(inner, "discard", "decide that usage is not billed", _DISCARD)
    discarding.add_argument("--all", action="store_true", help="everything in quarantine, without any filter")
    discarding.add_argument(
        "--because", metavar="TEXT", help="why; kept in the audit log, and asked for on a terminal"
    )
    discarding.add_argument("--yes", action="store_true", help="do not ask")
    discarding.set_defaults(run=_discard)


def _subcommand(
    inner: "argparse._SubParsersAction[Parser]", name: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    parser = inner.add_parser(
        name,
        help=description,
        description=description.capitalize() + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    group = parser.add_argument_group("which usage is meant")
    reasons = [str(reason) for reason in Reason]
    group.add_argument(
        "--reason",
        metavar="R",
        action="append",
        choices=reasons,
        default=[],
        help=f"{', '.join(reasons)}; repeatable",
    )
    group.add_argument("--policy", metavar="NAME", help="usage of this policy")
    group.add_argument("--user", metavar="USER", help="usage of this user")
    group.add_argument("--customer", metavar="ID", help="usage of this Stripe customer")
    group.add_argument("--event-name", metavar="NAME", help="usage under this event name")
    group.add_argument("--account", metavar="ID", help="usage of this connected account; `own` is the key's own")
    group.add_argument("--mode", choices=("test", "live"), help="usage under keys of this mode")
    moment = "a date, a time, unix seconds, or how long ago (24h, 7d); UTC"
    group.add_argument("--since", metavar="T", help=f"usage of spans that ended at or after T: {moment}")
    group.add_argument("--until", metavar="T", help="usage of spans that ended before T")
    group.add_argument("--identifier", metavar="ID", help="the meter event with this identifier")
    group.add_argument("--trace", metavar="TRACE_ID", help="usage of this trace")
    return parser


def _no_subcommand(_: argparse.Namespace) -> int:
    raise UsageError("quarantine: give a subcommand: list, release or discard")


def _list(arguments: argparse.Namespace) -> int:
    if arguments.limit is not None and not (arguments.entries and arguments.limit > 0):
        raise UsageError("quarantine list: --limit is a number above 0, and goes with --entries")
    quarantines, filters = _quarantines(arguments), _filters(arguments)
    if arguments.entries:
        quarantine_list.print_entries(quarantines, filters, arguments.limit or 100, arguments.format)
    else:
        quarantine_list.print_groups(quarantines, filters, arguments.format)
    return 0


def _release(arguments: argparse.Namespace) -> int:
    from otel_usageflow.ledger.quarantine import Decided

    decided = Decided(_user(arguments.as_user), _quantity(arguments.quantity))
    filters = _filters(arguments)
    if decided != Decided() and not filters.any:
        raise UsageError(
            "quarantine release: with --as-user or --quantity say which usage is meant, as --policy NAME"
        )
    asked = _asked(arguments, "as_user", "quantity")
    return quarantine_change.release(
        _quarantines(arguments), filters, decided, asked, arguments.because.strip(), yes=arguments.yes
    )


def _discard(arguments: argparse.Namespace) -> int:
    filters = _filters(arguments)
    if filters.any == arguments.all:
        raise UsageError("quarantine discard: say what is meant, as --reason too_old, or give --all, and not both")
    return quarantine_change.discard(
        _quarantines(arguments), filters, _asked(arguments, "all"), arguments.because, yes=arguments.yes
    )


def _quarantines(arguments: argparse.Namespace) -> list["Quarantine"]:
    from otel_usageflow.extensions.sqlite_storage.quarantine.desk import Quarantine

    return [Quarantine(directory) for directory in directories(arguments)]


def _filters(arguments: argparse.Namespace) -> "Filters":
    from otel_usageflow.ledger.quarantine import Filters

    return Filters(
        reasons=tuple(sorted({Reason(reason) for reason in arguments.reason})),
        policy=arguments.policy,
        user=arguments.user,
        customer=arguments.customer,
        event_name=arguments.event_name,
        account="" if arguments.account == "own" else arguments.account,
        mode=arguments.mode,
        since=parse_moment(arguments.since, "--since") if arguments.since else None,
        until=parse_moment(arguments.until, "--until") if arguments.until else None,
        identifier=arguments.identifier,
        trace_id=parse_trace_id(arguments.trace, "--trace") if arguments.trace is not None else None,
    )


def _asked(arguments: argparse.Namespace, *more: str) -> dict[str, object]:
    """What the command was given, for the audit log."""
    names = (
        "reason", "policy", "user", "customer", "event_name", "account", "mode", "since", "until", "identifier",
        "trace", *more,
    )  # fmt: skip
    return {name: value for name in names if (value := getattr(arguments, name)) not in (None, [], False)}


def _user(text: str | None) -> str | None:
    if text is None:
        return None
    if not text.strip() or len(text.strip()) > _MOST_USER:
        raise UsageError(f"--as-user: give the user, at most {_MOST_USER} characters")
    return text.strip()


def _quantity(text: str | None) -> "int | Decimal | None":
    from otel_usageflow.ledger.amount import SIGNIFICANT_DIGITS, normal, parts

    if text is None:
        return None
    try:
        value = Decimal(text) if text.isascii() and "_" not in text else Decimal("NaN")
    except InvalidOperation:
        value = Decimal("NaN")
    if (
        not value.is_finite()
        or value < 0
        or len(text) > 40
        or abs(value.adjusted()) > 40
        or len(parts(normal(value))) > 1
    ):
        raise UsageError(
            f"--quantity: {text!r} is no quantity; write a number from 0 on of at most {SIGNIFICANT_DIGITS} digits"
        )
    return normal(value)
