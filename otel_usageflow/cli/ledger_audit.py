"""`otel-usageflow ledger audit`: who changed what that decides about money, and when."""

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from otel_usageflow.cli.ledger_choice import add_ledger_arguments, ledger_directory
from otel_usageflow.cli.moments import parse_moment
from otel_usageflow.cli.output import console, shown, table, write_json

if TYPE_CHECKING:
    from otel_usageflow.ledger.audit import Entry

_EPILOG = """\
JSON has the whole of every entry; the table says what is different between before and after. `ledger verify`
checks that no entry was changed or removed.

examples:
  otel-usageflow ledger audit --config usageflow.yaml --since 7d
  otel-usageflow ledger audit --config usageflow.yaml --action configured --format json
"""
_MOST = 8
"""Differences shown in a line of the table."""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "audit",
        help="show who changed what, and when",
        description="Show everything that changed money or policy: who, what, when, before and after, and why.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_ledger_arguments(parser)
    parser.add_argument(
        "--since", metavar="T", help="entries at or after T: a date, a time, or how long ago (24h, 7d)"
    )
    parser.add_argument("--until", metavar="T", help="entries before T")
    parser.add_argument("--action", metavar="WORD", help="only entries with this action, as discarded")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print the audit log."""
    since = parse_moment(arguments.since, "--since") if arguments.since else None
    until = parse_moment(arguments.until, "--until") if arguments.until else None
    directory = ledger_directory(arguments)
    from otel_usageflow.extensions.sqlite_storage.upkeep.maintenance import audit_entries

    entries = list(audit_entries(directory, since, until, arguments.action))
    {"table": _table, "json": _json}[arguments.format](entries)
    return 0


def _json(entries: list["Entry"]) -> None:
    write_json(
        {
            "audit": [
                {
                    "entry": one.entry,
                    "at": _moment(one.at),
                    "actor": one.actor,
                    "action": one.action,
                    "subject": one.subject,
                    "before": json.loads(one.before),
                    "after": json.loads(one.after),
                    "why": one.why,
                    "hash": one.hash.hex(),
                }
                for one in entries
            ]
        }
    )


def _table(entries: list["Entry"]) -> None:
    if not entries:
        console().print("No entries in the audit log for this time.")
        return
    printed = table("entry", "at", "actor", "action", "subject", "change", "why", numbers=("entry",))
    for one in entries:
        values = (one.actor, one.action, one.subject, _change(one), one.why)
        printed.add_row(str(one.entry), _moment(one.at), *(shown(value) for value in values))
    console().print(printed)


def _change(entry: "Entry") -> str:
    before, after = json.loads(entry.before), json.loads(entry.after)
    if "seals" in after:
        return f"{len(after['seals'])} seals"
    old, new = dict(_flat(before)), dict(_flat(after))
    if entry.subject == "quarantine":  # what was asked for, and what was done: no change of one into the other
        new |= {f"asked for {name}": value for name, value in old.items()}
        old = {}
    told = []
    for name in sorted(old.keys() | new.keys(), key=lambda name: (name not in new, list({**new, **old}).index(name))):
        if old.get(name) == new.get(name):
            continue
        value = new.get(name, "removed")
        told.append(f"{name}: {old[name]} -> {value}" if name in old else f"{name}: {value}")
    more = f" and {len(told) - _MOST} more" if len(told) > _MOST else ""
    return ", ".join(told[:_MOST]) + more


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Leaves by their paths."""
    children: Mapping[str, Any] | None = None
    if isinstance(value, dict):
        children = value
    elif isinstance(value, list):
        children = {str(place): one for place, one in enumerate(value)}
    if children is None:
        yield name, value if isinstance(value, str) else json.dumps(value)
    else:
        for key, child in children.items():
            yield from _flat(child, f"{name}::{key}" if name else key)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
