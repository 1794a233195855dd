"""`otel-usageflow validate`: is this configuration right? No output means yes."""

import argparse

from otel_usageflow.cli.arguments import add_config_arguments, load_config

_EPILOG = """\
examples:
  otel-usageflow validate --config usageflow.yaml
  otel-usageflow validate --config usageflow.yaml && systemctl restart usageflow
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "validate",
        help="check a configuration without starting anything",
        description="Check a configuration without starting anything. Prints every mistake at once.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Exit 0 without output, or print every problem and exit 1."""
    load_config(arguments)
    return 0
