"""The command `otel-usageflow`.

Each command is a module with `register(subparsers)`; without a command, the service runs.

Exit status: 0 done, 1 configuration or usage error, 2 could not start or failed while running, 3 a check
found a difference, 130 a command was interrupted.
"""

import argparse
import errno
import sys
from collections.abc import Sequence

from otel_usageflow import __version__
from otel_usageflow.cli import (
    components,
    connect,
    demo,
    discover,
    doctor,
    explain,
    ledger,
    meters,
    preview,
    print_config,
    quarantine,
    reconcile,
    run,
    usage,
    validate,
)
from otel_usageflow.cli.arguments import Parser, add_config_arguments, check_text
from otel_usageflow.cli.output import give_up_stdout, prepare_streams
from otel_usageflow.errors import ConfigErrors, StartError, UsageError

COMMANDS = (
    validate,
    print_config,
    components,
    preview,
    discover,
    usage,
    explain,
    quarantine,
    reconcile,
    ledger,
    meters,
    connect,
    doctor,
    demo,
)
"""In the order of the help."""

_DESCRIPTION = "Usage-based billing from OpenTelemetry: HTTP server spans in, Stripe meter events out."

_EXAMPLES = """\
without a command, the service runs until SIGTERM or SIGINT:
  otel-usageflow --config usageflow.yaml
  otel-usageflow --config usageflow.yaml --config production.yaml
  otel-usageflow --config usageflow.yaml --set service::telemetry::logs::level=debug

exit status: 0 done, 1 configuration or usage error, 2 could not start or failed while running,
3 a check found a difference
"""


def parser() -> Parser:
    """The command line, with every command."""
    root = Parser(
        prog="otel-usageflow",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"otel-usageflow {__version__}")
    add_config_arguments(root, of_root=True)
    root.set_defaults(run=run.command)
    subparsers = root.add_subparsers(title="commands", metavar="COMMAND")
    for module in COMMANDS:
        module.register(subparsers)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status. Errors that a user can mend are one message each on standard error, without a
        traceback.
    """
    prepare_streams()
    try:
        status = _main(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        give_up_stdout()  # the reader has seen enough
        return 0
    except PermissionError as error:
        user = "run the command as the user of the service, or choose another place"
        sys.stderr.write(f"otel-usageflow: {error.filename or 'a file'}: {error.strerror}; {user}\n")
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        give_up_stdout()
        sys.stderr.write(f"otel-usageflow: cannot write: {error.strerror}\n")
        return 2
    return status


def _main(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    root_config, root_sets = arguments.root_config, arguments.root_sets
    arguments.config = [*root_config, *(getattr(arguments, "config", None) or ())]
    arguments.sets = [*root_sets, *(getattr(arguments, "sets", None) or ())]
    try:
        check_text(arguments)
        status: int = arguments.run(arguments)
    except ConfigErrors as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except UsageError as error:
        sys.stderr.write(f"otel-usageflow: {error}\n")
        return 1
    except StartError as error:
        sys.stderr.write(f"otel-usageflow: {error}\n")
        return 2
    return status
