"""`otel-usageflow connect remove`: end the connection of an account, here and at Stripe. Its usage is kept."""

import argparse
import asyncio
import sys
import time
from typing import TYPE_CHECKING

from otel_usageflow.cli.connect_choice import add_exporter_arguments, connecting_book
from otel_usageflow.cli.output import shown
from otel_usageflow.cli.people import actor, confirmed
from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.cli.books import Book
    from otel_usageflow.exporters.stripe_meter.connect_config import ConnectConfig

_EPILOG = """\
Nothing is sent for the account any more, within seconds also by a service that runs. Usage of it is taken and kept as
before, and is sent if the account is connected again in time: Stripe takes usage of the last 35 days.

exit status: 0 removed, 2 removed here, but Stripe could not be told

example: otel-usageflow connect remove --config usageflow.yaml acct_1MYSqkFCE4v1Qd7T
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "remove",
        help="end the connection of an account; its usage is kept",
        description="End the connection of an account, here and at Stripe. Its usage is kept.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_exporter_arguments(parser)
    parser.add_argument("account", metavar="ACCOUNT", help="as connect list shows it")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Remove it here first, so that nothing is sent whatever Stripe says; then tell Stripe."""
    from otel_usageflow.extensions.sqlite_storage.connect.desk import ConnectionDesk
    from otel_usageflow.ledger.connections import ConnectionState

    book, connect = connecting_book(arguments)
    account: str = arguments.account
    desk = ConnectionDesk(book.directory, book.name)
    connections, unsent = desk.all()
    where = f"{book.exporter} in {book.config.mode} mode"
    if (one := connections.get(account)) is None:
        raise UsageError(f"{account!r} was not connected for {where}; otel-usageflow connect list shows what was")
    if not one.usable and (one.revoked or one.kind == "app"):
        sys.stdout.write(f"{account}: its connection is over already ({one.state})\n")
        return 0
    waiting = unsent.get(account, 0)
    _say(f"{account}, {where}, is {one.state}; {waiting} meter events of it wait to be sent, and would be kept.")
    if not confirmed("End its connection?", yes=arguments.yes):
        return 0
    by = actor()
    if one.usable or one.state is ConnectionState.REMOVED:
        desk.remove(account, by, time.time())
    sys.stdout.write(f"{account}: removed; nothing is sent for it any more\n")
    if one.kind == "app":
        _say(
            "Its tokens are deleted. Stripe has no call that uninstalls an app: its owner does that in the Dashboard."
        )
        return 0
    if (why := asyncio.run(_deauthorize(book, connect, account))) is not None:
        _say(
            f"Stripe could not be told: {shown(why)}.\nThere the platform can still act for the account. Run this "
            "command again, or let the owner end it in the Dashboard, under installed extensions."
        )
        return 2
    desk.revoked(account, by, time.time())
    sys.stdout.write(f"{account}: Stripe has ended the connection\n")
    return 0


async def _deauthorize(book: "Book", connect: "ConnectConfig", account: str) -> str | None:
    """Tell Stripe; why that was not possible, or None. That it is over already is as good."""
    from otel_usageflow.exporters.stripe_meter.oauth import OAuth, is_not_connected, said
    from otel_usageflow.exporters.stripe_meter.wire import StripeFailure, opened

    async with opened(book.config) as client:
        try:
            await OAuth(client, connect).deauthorize(account)
        except StripeFailure as error:
            return None if is_not_connected(error) else said(error)
    return None


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
