"""`otel-usageflow usage`: what was used, by whom, and where it stands. Works while the service runs, too."""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from otel_usageflow.cli import adjust
from otel_usageflow.cli.arguments import add_config_arguments
from otel_usageflow.cli.ledgers import readers
from otel_usageflow.cli.moments import parse_moment
from otel_usageflow.cli.output import console, shown, table, write_json, write_utf8
from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.ledger.report import UsageLine

_EPILOG = """\
where usage stands:
  billed       Stripe has it
  sending      written down as a meter event that Stripe has not answered for yet
  collecting   in a window that has not ended, or whose turn has not come
  quarantined  cannot be billed yet; kept, with the reason
  unknown      sent and perhaps counted, too old to be sent again
  discarded    somebody decided, with a reason, that it is not billed
  cancelled    Stripe had it, and cancelled it because somebody asked for that

Usage of test mode and of live mode stand in lines of their own, with a column `mode` if there is usage of both.

Corrections that were asked for stand in lines of their own, with the reason "correction", no requests and a signed
quantity.

examples:
  otel-usageflow usage --config usageflow.yaml
  otel-usageflow usage --config usageflow.yaml --since 24h
  otel-usageflow usage --config usageflow.yaml --since 2026-11-01 --until 2026-12-01 --by customer,event --format csv
  otel-usageflow usage --config usageflow.yaml --since 30d --by day,event
  otel-usageflow usage --config usageflow.yaml --account acct_1MYSqkFCE4v1Qd7T
"""

DIMENSIONS = {
    "day": ("day",),
    "event": ("account", "event_name"),
    "user": ("metadata_field", "user"),
    "customer": ("account", "customer"),
}
"""What `--by` takes, and the columns of each."""
ALWAYS = ("standing", "reason", "requests", "quantity")
_ORDER = ("day", "account", "event_name", "metadata_field", "user", "customer", *ALWAYS)
_DEFAULT = "event,user,customer"


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
    parser.add_argument(
        "--by",
        metavar="LIST",
        default=_DEFAULT,
        help=f"one line for each of these: any of {', '.join(DIMENSIONS)}, with commas between; default: {_DEFAULT}",
    )
    parser.add_argument("--account", metavar="ID", help="usage of this connected account; `own` is the key's own")
    parser.add_argument("--mode", choices=("test", "live"), help="usage under keys of this mode")
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table", help="default: table")
    parser.set_defaults(run=command)
    adjust.register(parser.add_subparsers(title="commands", metavar="COMMAND"))


def command(arguments: argparse.Namespace) -> int:
    """Print the usage."""
    since = parse_moment(arguments.since, "--since") if arguments.since else None
    until = parse_moment(arguments.until, "--until") if arguments.until else None
    columns = _columns(arguments.by)
    read = _read(arguments, since, until, by_day="day" in columns)
    if len({line.mode for line in read}) > 1:
        columns = (*columns, "mode")
    lines = _together(read, columns)
    rows = [_values(line, columns) for line in lines]
    {"table": _table, "json": _json, "csv": _csv}[arguments.format](rows, columns)
    return 0


def _columns(by: str) -> tuple[str, ...]:
    """The columns that a report by these has."""
    asked = [name.strip() for name in by.split(",") if name.strip()]
    for name in asked:
        if name not in DIMENSIONS:
            raise UsageError(f"--by: there is no {name!r}; write any of {', '.join(DIMENSIONS)}, with commas between")
    wanted = {column for name in asked for column in DIMENSIONS[name]} | {*ALWAYS}
    return tuple(column for column in _ORDER if column in wanted)


def _read(
    arguments: argparse.Namespace, since: float | None, until: float | None, *, by_day: bool
) -> list["UsageLine"]:
    lines: list[UsageLine] = []
    with readers(arguments) as ledgers:
        for reader in ledgers:
            low, high = reader.answerable(since, until)
            if (since is not None and low != int(since)) or (until is not None and high != int(until)):
                told = " ".join(f"{name} {_moment(one)}" for name, one in (("from", low), ("to", high)) if one)
                sys.stderr.write(f"Requests of that time are pruned, so whole UTC days are told: {told}.\n")
            waiting = reader.waiting_requests()
            if waiting:
                requests = "1 request waits" if waiting == 1 else f"{waiting} requests wait"
                sys.stderr.write(f"Not in here: {requests} for spans of the trace before the quantity is known.\n")
            lines.extend(reader.usage(since, until, by_day=by_day))
    account = "" if arguments.account == "own" else arguments.account
    return [
        line for line in lines if (account is None or line.account == account) and arguments.mode in (None, line.mode)
    ]


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _together(lines: Sequence["UsageLine"], columns: Sequence[str]) -> list["UsageLine"]:
    """Lines that are the same in the columns that are shown, added up."""
    which = [column for column in columns if column not in ("requests", "quantity")]
    found: dict[tuple[str, ...], list[UsageLine]] = {}
    for line in lines:
        found.setdefault(tuple(str(getattr(line, column) or "") for column in which), []).append(line)
    return [_sum(found[place]) for place in sorted(found)]


def _sum(lines: Sequence["UsageLine"]) -> "UsageLine":
    made = lines[0]
    for line in lines[1:]:
        made = made.plus(line)
    return made if len({(line.account, line.event_name) for line in lines}) == 1 else replace(made, event_name="")


def _values(line: "UsageLine", columns: Sequence[str]) -> dict[str, object]:
    from otel_usageflow.ledger.amount import plain

    values: dict[str, object] = {name: getattr(line, name) or None for name in columns}
    values["standing"] = str(line.standing)
    values["requests"] = line.requests
    # Requests of one meter and tokens of another do not add up to anything.
    values["quantity"] = plain(line.quantity) if line.event_name else None
    return values


def _json(rows: Sequence[dict[str, object]], _columns: Sequence[str]) -> None:
    write_json({"usage": list(rows)})


def _csv(rows: Sequence[dict[str, object]], columns: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(name, value) for name, value in row.items()})
    write_utf8(text.getvalue())


def _harmless(name: str, value: object) -> object:
    """A text that a spreadsheet takes as text: users are chosen by other people."""
    if name != "quantity" and isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def _table(rows: Sequence[dict[str, object]], columns: Sequence[str]) -> None:
    if not rows:
        console().print("No usage in the ledger for this time.")
        return
    names = [name for name in columns if name != "account" or any(row["account"] for row in rows)]
    printed = table(*(name.replace("_", " ") for name in names))
    for row in rows:
        printed.add_row(*(shown("" if row[name] is None else str(row[name])) for name in names))
    console().print(printed)
