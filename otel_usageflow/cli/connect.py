"""`otel-usageflow connect`: other companies' Stripe accounts. Each subcommand is a module of its own."""

import argparse

from otel_usageflow.cli import connect_list, connect_remove, connect_token, connect_url

SUBCOMMANDS = (connect_url, connect_list, connect_remove, connect_token)
"""In the order of the help; each has `register(subparsers)`."""

_EPILOG = """\
examples:
  otel-usageflow connect url --config usageflow.yaml
  otel-usageflow connect list --config usageflow.yaml
  otel-usageflow connect remove --config usageflow.yaml acct_1MYSqkFCE4v1Qd7T
  otel-usageflow connect token create --config usageflow.yaml acct_1MYSqkFCE4v1Qd7T

all of them work while the service runs; the link that url prints needs it to
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its subcommands."""
    parser = subparsers.add_parser(
        "connect",
        help="connect other companies' Stripe accounts, list or remove them, and make tokens for them",
        description="Connect other companies' Stripe accounts with OAuth, list them, or remove one; make tokens that "
        "let companies in.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in SUBCOMMANDS:
        module.register(commands)
