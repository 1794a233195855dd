"""`otel-usageflow ledger verify`: is the ledger whole, and unchanged? Works while the service runs."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from otel_usageflow.cli.ledger_choice import add_ledger_arguments, ledger_directory
from otel_usageflow.cli.output import console, shown, table, write_json
from otel_usageflow.cli.progress import ProgressLine
from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.ledger.verification import Head, Verification

_EPILOG = """\
what is checked:
  file          every page and index, by SQLite
  audit         each entry of the audit log has the hash of the one before it in its own
  seals         meter events, the first answers to them, and names are as they were when they were sealed;
                no meter event is missing that pruning has not removed
  conservation  every record is in one window, every window and meter event says what its records sum up to
  totals        the totals by day are those of their rows

Note the head of the audit log somewhere else, and give it to --expect later: then nobody can have written the
whole log anew, or have cut off its end.

exit status: 0 nothing was found, 3 something was

examples:
  otel-usageflow ledger verify --config usageflow.yaml
  otel-usageflow ledger verify --config usageflow.yaml --expect 1204:9f86d081884c7d659a2feaa0c55ad015
  otel-usageflow ledger verify --file /backup/ledger-2026-11-22.db
"""
_EXPECTED = re.compile(r"(?P<entry>[1-9]\d{0,15}):(?P<hash>[0-9a-fA-F]{16,64})")


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "verify",
        help="check that the ledger is whole and unchanged",
        description="Check that the ledger is whole and unchanged.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_ledger_arguments(parser)
    parser.add_argument("--file", metavar="FILE", type=Path, help="a backup, instead of the configuration's ledger")
    parser.add_argument(
        "--expect",
        metavar="ENTRY:HASH",
        help="what an earlier run named as the head of the audit log; at least 16 digits of the hash",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Verify; 3 if there are findings."""
    expect = _expected(arguments.expect) if arguments.expect else None
    path = arguments.file or ledger_directory(arguments)
    if arguments.file is not None and not path.is_file():
        raise UsageError(f"--file: there is no file {path}")
    from otel_usageflow.extensions.sqlite_storage.upkeep.maintenance import verify_ledger

    with ProgressLine() as progress:
        result = verify_ledger(path, expect, progress)
    {"table": _table, "json": _json}[arguments.format](result)
    return 0 if result.ok else 3


def _expected(text: str) -> "Head":
    from otel_usageflow.ledger.verification import Head

    found = _EXPECTED.fullmatch(text)
    if found is None:
        raise UsageError(f"--expect: {text!r} is not ENTRY:HASH with at least 16 hexadecimal digits, as 1204:9f86...")
    return Head(int(found["entry"]), found["hash"].lower())


def _json(result: "Verification") -> None:
    write_json(
        {
            "ok": result.ok,
            "findings": [
                {"check": one.check, "where": one.where, "problem": one.problem, "remedy": one.remedy}
                for one in result.findings
            ],
            "counts": dict(result.counts),
            "looked_at": dict(result.looked_at),
            "remarks": result.remarks,
            "head": None if result.head is None else {"entry": result.head.entry, "hash": result.head.hash},
        }
    )


def _table(result: "Verification") -> None:
    screen = console()
    if not result.ok:
        printed = table("check", "where", "problem", "what to do")
        for one in result.findings:
            printed.add_row(one.check, shown(one.where), shown(one.problem), shown(one.remedy))
        screen.print(printed)
        more = sum(result.counts.values()) - len(result.findings)
        if more:
            screen.print(f"and {more} more")
    for remark in result.remarks:
        screen.print(f"note: {shown(remark)}")
    looked = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in sorted(result.looked_at.items()))
    screen.print(
        f"{'The ledger is whole' if result.ok else 'There are findings'}: {looked or 'nothing could be read'}."
    )
    if result.head is not None:
        screen.print(f"head of the audit log: {result.head}")
