"""`otel-usageflow connect url`: a link with which the owner of a Stripe account connects it. It works once."""

import argparse
import re
import sys
import time

from otel_usageflow.cli.connect_choice import add_exporter_arguments, connecting_book
from otel_usageflow.cli.moments import parse_length, written
from otel_usageflow.cli.people import actor
from otel_usageflow.errors import UsageError

_SHORTEST, _LONGEST = 60.0, 7 * 86_400.0

_EPILOG = """\
The link goes to standard output, what to do with it to standard error. The service must run when the link is opened:
Stripe sends the owner's browser to exporters::stripe_meter::connect::redirect_uri, which must reach its callback.

examples:
  otel-usageflow connect url --config usageflow.yaml
  otel-usageflow connect url --config usageflow.yaml --expires 24h --email owner@example.com
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "url",
        help="make a link with which the owner of an account connects it",
        description="Make a link with which the owner of a Stripe account connects it. It works once.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_exporter_arguments(parser)
    parser.add_argument("--account", metavar="ACCT", help="the account that is expected; another one is told of")
    parser.add_argument("--email", metavar="ADDRESS", help="fills Stripe's form, for an owner who has no account yet")
    parser.add_argument("--expires", metavar="TIME", default="1h", help="how long it works: 1m to 168h; default: 1h")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print the link."""
    from otel_usageflow.exporters.stripe_meter.connect_config import key_ring
    from otel_usageflow.exporters.stripe_meter.connect_state import State, new_nonce
    from otel_usageflow.exporters.stripe_meter.connect_state import written as state_written
    from otel_usageflow.exporters.stripe_meter.oauth import link as oauth_link
    from otel_usageflow.extensions.sqlite_storage.connect.desk import ConnectionDesk
    from otel_usageflow.ledger.connections import Link

    length = parse_length(arguments.expires, "--expires")
    if not _SHORTEST <= length <= _LONGEST:
        raise UsageError(f"--expires: {arguments.expires} is too short or too long; give 1m to 168h")
    account = arguments.account or ""
    if account and not re.fullmatch(r"acct_[A-Za-z0-9_]+", account):
        raise UsageError(f"--account: {account!r} is no account; one begins with acct_")
    book, connect = connecting_book(arguments)
    if arguments.email and connect.kind == "app":
        raise UsageError("--email: an app is installed into an account that exists; leave it out")
    keys = key_ring(connect, f"exporters::{book.exporter}::connect")
    now = time.time()
    link = Link(new_nonce(), book.name, now, float(int(now + length)), actor(), account)
    ConnectionDesk(book.directory, book.name).make_link(link)
    state = state_written(State(link.nonce, int(link.expires_at), book.name), keys)
    sys.stdout.write(oauth_link(connect, book.config.endpoints.connect, state, arguments.email or "") + "\n")
    sys.stdout.flush()
    sys.stderr.write(
        f"Give this link to the owner of the account. It works once, until {written(link.expires_at)}, for "
        f"{book.exporter} in {book.config.mode} mode.\n"
        f"Whoever has the link can connect an account of theirs, so send it to nobody else.\n"
        f"The service must run to receive the answer: {connect.redirect_uri} must lead to {connect.path} of the "
        f"extension {connect.admin}.\n"
    )
    return 0
