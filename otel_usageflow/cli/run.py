"""`otel-usageflow --config FILE`: run the service until SIGTERM or SIGINT, with the policies that the files hold."""

import argparse
from functools import partial

from otel_usageflow.cli.arguments import load_config
from otel_usageflow.errors import UsageError


def command(arguments: argparse.Namespace) -> int:
    """Run the service; exit 0 after a clean stop."""
    if not arguments.config:
        raise UsageError("name a configuration with --config FILE, or a command; see otel-usageflow --help")
    from otel_usageflow.service.signals import Hangups

    hangups = Hangups()  # before all else that takes time

    from otel_usageflow.service.run import Reloads, run
    from otel_usageflow.service.sources import Sources

    sources = Sources(arguments.config, partial(load_config, arguments))
    state = sources.state()  # before they are read: what changes while the service starts is not missed
    return run(load_config(arguments), Reloads(sources, state, hangups))
