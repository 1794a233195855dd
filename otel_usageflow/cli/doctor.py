"""`otel-usageflow doctor`: is anything going to lose money? Key, permissions, meters, clock, ledger, traffic."""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import add_config_arguments, load_config
from otel_usageflow.cli.output import shown, write_json

if TYPE_CHECKING:
    from otel_usageflow.cli.finding import Finding
    from otel_usageflow.config.model import Config

_EPILOG = """\
It starts nothing, sends no usage, and changes nothing: a few reads of Stripe for each account, the ledger, and, where
the service runs on this machine, its readiness and its metrics.

  ok        as it should be
  note      something to know
  warning   nothing is lost now, and something may be
  problem   usage is lost, not billed, or will not be

exit status: 0 no problem, 1 the configuration is wrong, 3 problems

examples:
  otel-usageflow doctor --config usageflow.yaml
  otel-usageflow doctor --config usageflow.yaml --format json
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="check key, permissions, meters, clock, ledger and traffic",
        description="Check everything that could lose money: the key and what it may do, meters, the clock, the "
        "ledger, and what comes in.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Look at everything, and say what is wrong."""
    from otel_usageflow.cli.finding import Level, worst

    config = load_config(arguments)
    findings = _findings(config)
    if arguments.format == "json":
        write_json({"verdict": str(worst(findings)), "findings": [_json(one) for one in findings]})
    else:
        _show(findings)
    return 3 if worst(findings) is Level.PROBLEM else 0


def _findings(config: "Config") -> "list[Finding]":
    from otel_usageflow.cli import doctor_ledger, doctor_service, doctor_stripe
    from otel_usageflow.cli.billed import outlets
    from otel_usageflow.cli.finding import Finding, Level
    from otel_usageflow.extensions.sqlite_storage import SqliteStorageConfig

    now = time.time()
    found = [Finding(Level.WARNING, problem.path, problem.message) for problem in config.warnings]
    found.append(Finding(Level.OK, "configuration", "is valid"))
    for outlet in outlets(config):
        storage = config.extensions[outlet.config.sending_queue.storage].config
        directory = storage.directory if isinstance(storage, SqliteStorageConfig) else None
        known = doctor_ledger.known_meters(outlet, directory) if directory is not None else frozenset()
        found.extend(asyncio.run(doctor_stripe.examine(outlet, known, now)))
        if directory is not None:
            found.extend(doctor_ledger.examine(outlet, directory, now))
    found.extend(asyncio.run(doctor_service.examine(config)))
    return found


def _show(findings: "Sequence[Finding]") -> None:
    """Plain lines, the worst last, where eyes are when the command has ended."""
    from otel_usageflow.cli.finding import Level

    order = list(Level)
    for one in sorted(findings, key=lambda one: order.index(one.level)):
        sys.stdout.write(f"{one.level:<8} {shown(one.subject)}: {shown(one.text)}\n")
        if one.remedy:
            sys.stdout.write(f"         -> {shown(one.remedy)}\n")
    counts = ", ".join(
        f"{count} {level}{'s' if count != 1 and level is not Level.OK else ''}"
        for level in reversed(Level)
        if (count := sum(one.level is level for one in findings))
    )
    sys.stdout.write(f"\n{counts}\n")


def _json(one: "Finding") -> dict[str, str | None]:
    return {"level": str(one.level), "subject": one.subject, "text": one.text, "remedy": one.remedy or None}
