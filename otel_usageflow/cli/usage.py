"""`otel-usageflow usage`: what was used, by whom, and where it stands. Works while the service runs, too."""

import argparse
import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import add_config_arguments
from otel_usageflow.cli.ledgers import readers
from otel_usageflow.cli.moments import parse_moment
from otel_usageflow.cli.output import console, shown, table, write_json, write_utf8

if TYPE_CHECKING:
    from otel_usageflow.ledger.report import UsageLine

_EPILOG = """\
where usage stands:
  billed       Stripe has it
  sending      written down as a meter event that Stripe has not answered for yet
  collecting   in a window that has not ended, or whose turn has not come
  quarantined  cannot be billed yet; kept, with the reason
  unknown      sent and perhaps counted, too old to be sent again

examples:
  otel-usageflow usage --config usageflow.yaml
  otel-usageflow usage --config usageflow.yaml --since 24h
  otel-usageflow usage --config usageflow.yaml --since 2026-11-01 --until 2026-12-01 --format csv
"""

COLUMNS = (
    "account",
    "event_name",
    "metadata_field",
    "user",
    "customer",
    "standing",
    "reason",
    "requests",
    "quantity",
)


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "usage",
        help="show usage by customer, and where it stands",
        description="Show the usage in the ledger by customer, and where it stands.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    moment = "a date, a time, unix seconds, or how long ago (24h, 7d); UTC"
    parser.add_argument("--since", metavar="T", help=f"usage of spans that ended at or after T: {moment}")
    parser.add_argument("--until", metavar="T", help="usage of spans that ended before T")
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table", help="default: table")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print the usage."""
    since = parse_moment(arguments.since, "--since") if arguments.since else None
    until = parse_moment(arguments.until, "--until") if arguments.until else None
    lines = _read(arguments, since, until)
    {"table": _table, "json": _json, "csv": _csv}[arguments.format](lines)
    return 0


def _read(arguments: argparse.Namespace, since: float | None, until: float | None) -> list["UsageLine"]:
    lines: list[UsageLine] = []
    with readers(arguments) as ledgers:
        for reader in ledgers:
            lines.extend(reader.usage(since, until))
    return lines


def _values(line: "UsageLine") -> dict[str, object]:
    from otel_usageflow.ledger.amount import plain

    values = {name: getattr(line, name) for name in COLUMNS}
    return {
        **values,
        "account": line.account or None,
        "user": line.user or None,
        "standing": str(line.standing),
        "quantity": plain(line.quantity),
    }


def _json(lines: Sequence["UsageLine"]) -> None:
    write_json({"usage": [_values(line) for line in lines]})


def _csv(lines: Sequence["UsageLine"]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({name: _harmless(value) for name, value in _values(line).items()})
    write_utf8(text.getvalue())


def _harmless(value: object) -> object:
    """A text that a spreadsheet takes as text: users are chosen by other people."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def _table(lines: Sequence["UsageLine"]) -> None:
    if not lines:
        console().print("No usage in the ledger for this time.")
        return
    names = [name for name in COLUMNS if name != "account" or any(line.account for line in lines)]
    printed = table(*(name.replace("_", " ") for name in names))
    for line in lines:
        values = _values(line)
        printed.add_row(*(shown("" if values[name] is None else str(values[name])) for name in names))
    console().print(printed)
