"""Which ledger a command of `otel-usageflow ledger` is about: the configuration's, or one of several by its id."""

import argparse
from pathlib import Path

from otel_usageflow.cli.arguments import add_config_arguments, load_config
from otel_usageflow.errors import UsageError


def add_ledger_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, `--set` and `--storage`."""
    add_config_arguments(parser)
    parser.add_argument(
        "--storage", metavar="ID", help="which sqlite_storage, where service::extensions lists several"
    )


def ledger_directory(arguments: argparse.Namespace) -> Path:
    """The directory of the ledger that is meant.

    Raises:
        ConfigErrors: the configuration is wrong.
        UsageError: it names no ledger, or several and none was chosen.
    """
    from otel_usageflow.component import Kind
    from otel_usageflow.extensions.sqlite_storage import FACTORY

    if not arguments.config:
        raise UsageError("name the configuration with --config FILE; it says where the ledger is")
    config = load_config(arguments, need_secrets=False)
    used = [config.extensions[id_] for id_ in config.used(Kind.EXTENSION)]
    storages = {storage.id: storage.config for storage in used if storage.factory is FACTORY}
    if not storages:
        raise UsageError("no sqlite_storage is listed under service::extensions, so there is no ledger")
    chosen = arguments.storage
    if chosen is None and len(storages) > 1:
        raise UsageError(f"there are several ledgers; choose one with --storage: {', '.join(storages)}")
    if chosen is not None and chosen not in storages:
        raise UsageError(f"--storage: there is no {chosen!r} under service::extensions, but {', '.join(storages)}")
    directory: Path = storages[chosen if chosen is not None else next(iter(storages))].directory  # type: ignore[attr-defined]
    return directory
