"""`otel-usageflow ledger backup` and `ledger recover`: a copy of a ledger that can be put in its place."""

import argparse
import shlex
import sys
from pathlib import Path

from otel_usageflow.cli.ledger_choice import add_ledger_arguments, ledger_directory
from otel_usageflow.cli.progress import ProgressLine

_BACKUP = """\
The file is one consistent moment, checked, and complete in itself. Meter events that were still to be sent at that
moment count as perhaps sent in it, because whoever restores it cannot know. How to restore: docs/operations.md.

examples:
  otel-usageflow ledger backup --config usageflow.yaml /backup/ledger-2026-11-22.db
"""
_RECOVER = """\
Reads what can be read of a damaged ledger, around the damage, and writes it to a new one. The damaged file is not
changed. Stop the service first. Then `ledger verify --file` says what is missing.

examples:
  otel-usageflow ledger recover usageflow-data/ledger.db
  otel-usageflow ledger recover usageflow-data/ledger.db --output /other-disk/recovered.db
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands."""
    parser = subparsers.add_parser(
        "backup",
        help="copy the ledger to a file, while the service runs",
        description="Copy the ledger to a new file, while the service runs or not.",
        epilog=_BACKUP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_ledger_arguments(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="a new file")
    parser.set_defaults(run=back_up)
    parser = subparsers.add_parser(
        "recover",
        help="read what can be read of a damaged ledger",
        description="Read what can be read of a damaged ledger into a new one.",
        epilog=_RECOVER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the damaged ledger.db")
    parser.add_argument("--output", metavar="FILE", type=Path, help="default: recovered.db beside it")
    parser.set_defaults(run=recover)


def back_up(arguments: argparse.Namespace) -> int:
    """Make the copy."""
    directory = ledger_directory(arguments)
    from otel_usageflow.extensions.sqlite_storage.upkeep import maintenance

    with ProgressLine() as progress:
        made = maintenance.back_up(directory, arguments.file, progress)
    sys.stdout.write(
        f"{arguments.file}: {made.size:,} bytes, checked; {made.uncertain_events} meter events in it count as "
        f"perhaps sent\nhead of the audit log: {made.head}\n"
    )
    return 0


def recover(arguments: argparse.Namespace) -> int:
    """Write the new ledger, and say how to put it in place."""
    from otel_usageflow.extensions.sqlite_storage.schema import MIGRATIONS
    from otel_usageflow.extensions.sqlite_storage.upkeep import maintenance

    file: Path = arguments.file
    output: Path = arguments.output or file.with_name("recovered.db")
    with ProgressLine() as progress:
        made = maintenance.recover(file, output, progress)
    if made.schema > len(MIGRATIONS):
        sys.stderr.write(
            f"warning: by its header a newer version wrote this ledger (schema {made.schema}, known up to "
            f"{len(MIGRATIONS)}). If so, what that version keeps besides is not in the new file: recover "
            "with that one\n"
        )
    for name in sorted(made.rows.keys() | set(made.incomplete)):
        count = made.rows[name]
        damaged = ", and not all could be read" if name in made.incomplete else ""
        if count or damaged:
            sys.stdout.write(f"{name}: {count:,} rows{damaged}\n")
    old, new = shlex.quote(str(file)), shlex.quote(str(output))
    kept = shlex.quote(str(file.with_name("damaged")))
    sys.stdout.write(
        f"{made.uncertain_events} meter events count as perhaps sent.\n"
        "what is missing, and how to put it in place:\n"
        f"  otel-usageflow ledger verify --file {new}\n"
        f"  mkdir {kept} && mv {old}* {kept}/ && mv {new} {old}\n"
    )
    return 0
