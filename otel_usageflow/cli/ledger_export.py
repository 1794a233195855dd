"""`otel-usageflow ledger export`: the ledger as JSON lines or Parquet, in constant memory, of one moment."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from otel_usageflow.cli.export_formats import check_parquet, write_jsonl, write_parquet
from otel_usageflow.cli.ledger_choice import add_ledger_arguments, ledger_directory
from otel_usageflow.cli.moments import parse_moment
from otel_usageflow.cli.progress import ProgressLine

_EPILOG = """\
what can be exported (docs/export.md has every column):
  usage        one row a billed or billable request, with its window, meter event and where it stands
  events       one row a meter event, with Stripe's answer
  audit        the audit log
  quarantine   what cannot be billed yet: requests, windows and meter events
  corrections  what people corrected

--since and --until are about the moment of the usage; for the audit log, of the entry.
Quantities are decimal strings, in Parquet too. Parquet needs the extra packages of otel-usageflow[parquet].

examples:
  otel-usageflow ledger export --config usageflow.yaml --what usage --since 2026-11-01 --until 2026-12-01 \\
    --output november.jsonl
  otel-usageflow ledger export --config usageflow.yaml --what events --format parquet --output events.parquet
  otel-usageflow ledger export --config usageflow.yaml --what audit --output - | jq .action
"""
_WHAT = ("usage", "events", "audit", "quarantine", "corrections")


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "export",
        help="write usage, meter events, audit log, quarantine or corrections to a file",
        description="Write a part of the ledger to a new file, as JSON lines or Parquet.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_ledger_arguments(parser)
    parser.add_argument("--what", choices=_WHAT, required=True, help="what to write")
    parser.add_argument("--output", metavar="FILE", required=True, help="a new file; - is standard output")
    parser.add_argument("--format", choices=("jsonl", "parquet"), default="jsonl", help="default: jsonl")
    parser.add_argument("--since", metavar="T", help="at or after T: a date, a time, or how long ago (24h, 7d); UTC")
    parser.add_argument("--until", metavar="T", help="before T")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Write the file."""
    since = parse_moment(arguments.since, "--since") if arguments.since else None
    until = parse_moment(arguments.until, "--until") if arguments.until else None
    if arguments.format == "parquet":
        check_parquet()
    directory = ledger_directory(arguments)
    from otel_usageflow.extensions.sqlite_storage.proof.output_file import new_file
    from otel_usageflow.extensions.sqlite_storage.upkeep.maintenance import exported
    from otel_usageflow.ledger.export import COLUMNS, What

    what = What(arguments.what)
    write = {"jsonl": write_jsonl, "parquet": write_parquet}[arguments.format]
    with ExitStack() as stack:
        rows = stack.enter_context(exported(directory, what, since, until))
        progress = stack.enter_context(ProgressLine())
        if arguments.output == "-":
            write(COLUMNS[what], rows, sys.stdout.buffer, progress)
            sys.stdout.buffer.flush()
            return 0
        partial = stack.enter_context(new_file(Path(arguments.output)))
        with partial.open("wb") as file:
            count = write(COLUMNS[what], rows, file, progress)
    sys.stderr.write(f"{count} rows in {arguments.output}\n")
    return 0
