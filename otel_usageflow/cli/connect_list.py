"""`otel-usageflow connect list`: the connected accounts, and what became of them."""

import argparse
import sys
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import add_config_arguments
from otel_usageflow.cli.moments import written
from otel_usageflow.cli.output import console, shown, table, write_json

if TYPE_CHECKING:
    from otel_usageflow.ledger.connections import Connection

_EPILOG = """\
unsent are meter events that wait for Stripe's answer, or for the account to be connected again; nothing of an account
that is not connected any more is sent, and all of it is kept

example: otel-usageflow connect list --config usageflow.yaml --format json
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "list",
        help="the connected accounts of both modes, those that are over too",
        description="List the connected accounts of both modes, those whose connection is over too.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument("--exporter", metavar="ID", help="only those of this exporter")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print them."""
    rows = _rows(arguments)
    if arguments.format == "json":
        write_json({"connections": [_json(*row) for row in rows]})
        return 0
    if not rows:
        sys.stdout.write("no account was connected; make a link with: otel-usageflow connect url\n")
        return 0
    printed = table(
        "account", "exporter", "mode", "kind", "scope", "state", "connected", "changed", "by", "unsent",
        numbers=("unsent",),
    )  # fmt: skip
    for exporter, mode, one, unsent in rows:
        printed.add_row(
            shown(one.account), shown(exporter), mode, one.kind, shown(one.scope), str(one.state),
            written(one.connected_at), written(one.changed_at), shown(one.actor), str(unsent),
        )  # fmt: skip
    console().print(printed)
    return 0


def _rows(arguments: argparse.Namespace) -> "list[tuple[str, str, Connection, int]]":
    """(exporter, mode, connection, unsent meter events)."""
    from otel_usageflow.cli.books import books
    from otel_usageflow.errors import UsageError
    from otel_usageflow.extensions.sqlite_storage.connect.desk import ConnectionDesk

    found = books(arguments, need_secrets=False)
    if arguments.exporter is not None:
        found = [book for book in found if book.exporter == arguments.exporter]
        if not found:
            raise UsageError(f"--exporter: no pipeline has a stripe_meter exporter {arguments.exporter!r}")
    rows = []
    for book in found:
        for mode in ("live", "test"):  # which of them the key has is not known without the key
            connections, unsent = ConnectionDesk(book.directory, f"{book.exporter} {mode}").all()
            rows += [(book.exporter, mode, one, unsent.get(one.account, 0)) for one in connections.values()]
    return rows


def _json(exporter: str, mode: str, one: "Connection", unsent: int) -> dict[str, object]:
    return {
        "account": one.account,
        "exporter": exporter,
        "mode": mode,
        "kind": one.kind,
        "scope": one.scope,
        "state": str(one.state),
        "connected_at": written(one.connected_at),
        "changed_at": written(one.changed_at),
        "by": one.actor,
        "revoked_at_stripe": one.revoked,
        "unsent_events": unsent,
    }
