"""`otel-usageflow print-config`: the configuration after merging and expansion, without its secrets."""

import argparse

from otel_usageflow.cli.arguments import add_config_arguments, load_config
from otel_usageflow.cli.output import write_utf8

_EPILOG = """\
examples:
  otel-usageflow print-config --config usageflow.yaml --config production.yaml
  otel-usageflow print-config --config usageflow.yaml --set exporters::stripe_meter::api=v1
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "print-config",
        help="print the merged configuration, secrets as [REDACTED]",
        description="Print the configuration as YAML after merging and expansion, secrets as [REDACTED].",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print the configuration; a wrong one is reported instead. Secrets need not be set."""
    write_utf8(load_config(arguments, need_secrets=False).redacted())
    return 0
