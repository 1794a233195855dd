"""What the commands' arguments have in common."""

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.config.model import Config

_PATHS = ("input", "output", "against")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors exit with 1: 2 means that the service failed."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit."""
        sys.stderr.write(f"{self.prog}: {message}\ntry: {self.prog} --help\n")
        raise SystemExit(1)


def add_config_arguments(parser: argparse.ArgumentParser, *, of_root: bool = False) -> None:
    """Add `--config` and `--set`; after parsing they are the lists `config` and `sets`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        action="append",
        dest="root_config" if of_root else "config",
        default=[] if of_root else argparse.SUPPRESS,
        help="a configuration file; may be given several times, later files win",
    )
    parser.add_argument(
        "--set",
        metavar="KEY::PATH=VALUE",
        action="append",
        dest="root_sets" if of_root else "sets",
        default=[] if of_root else argparse.SUPPRESS,
        help="set one value over all files; the value is YAML",
    )


def parse_trace_id(text: str, option: str) -> bytes:
    """Read a trace id, 16 bytes.

    Raises:
        UsageError: it is none.
    """
    try:
        trace_id = bytes.fromhex(text)
    except ValueError:
        trace_id = b""
    if len(trace_id) != 16:
        raise UsageError(f"{option}: {text!r} is no trace id; it has 32 hexadecimal digits")
    return trace_id


def load_config(arguments: argparse.Namespace, *, need_secrets: bool = True) -> "Config":
    """The configuration that the arguments name.

    Args:
        arguments: what `add_config_arguments` has added to.
        need_secrets: with False, secrets whose environment variables are not set are not missed.

    Raises:
        ConfigErrors: everything that is wrong with it.
    """
    from otel_usageflow.components import registry
    from otel_usageflow.config.load import load

    return load(arguments.config, arguments.sets, registry(), need_secrets=need_secrets)


def check_text(arguments: argparse.Namespace) -> None:
    """Refuse texts that are no UTF-8, which the ledger cannot hold. Paths may be anything.

    Raises:
        UsageError: one of them is not.
    """
    for name, value in vars(arguments).items():
        if isinstance(value, str) and name not in _PATHS:
            try:
                value.encode()
            except UnicodeEncodeError:
                option = name.replace("_", "-")
                raise UsageError(f"{option}: {value!r} is not UTF-8; write it in UTF-8") from None
