"""`otel-usageflow --config FILE`: run the service until SIGTERM or SIGINT."""

import argparse

from otel_usageflow.cli.arguments import load_config
from otel_usageflow.errors import UsageError


def command(arguments: argparse.Namespace) -> int:
    """Run the service; exit 0 after a clean stop."""
    if not arguments.config:
        raise UsageError("name a configuration with --config FILE, or a command; see otel-usageflow --help")
    config = load_config(arguments)
    from otel_usageflow.service.run import run

    return run(config)
