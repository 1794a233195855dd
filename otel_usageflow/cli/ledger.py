"""`otel-usageflow ledger`: what people do with a whole ledger. Each subcommand is a module of its own."""

import argparse

from otel_usageflow.cli import ledger_audit, ledger_copies, ledger_export, ledger_verify

_EPILOG = """\
examples:
  otel-usageflow ledger verify --config usageflow.yaml
  otel-usageflow ledger audit --config usageflow.yaml --since 7d
  otel-usageflow ledger backup --config usageflow.yaml /backup/ledger-2026-11-22.db
  otel-usageflow ledger export --config usageflow.yaml --what usage --since 2026-11-01 --output usage.jsonl
  otel-usageflow ledger recover usageflow-data/ledger.db

all but recover work while the service runs
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its subcommands."""
    parser = subparsers.add_parser(
        "ledger",
        help="verify, audit, export, back up or recover the ledger",
        description="Verify, audit, export, back up or recover the ledger.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (ledger_verify, ledger_audit, ledger_export, ledger_copies):
        module.register(commands)
