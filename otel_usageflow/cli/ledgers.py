"""The ledgers that a configuration names, opened for reading."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import load_config
from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.extensions.sqlite_storage.reading.reader import SqliteReader


@contextmanager
def readers(arguments: argparse.Namespace) -> Iterator[list["SqliteReader"]]:
    """A reader for each ledger; the service may run meanwhile.

    Raises:
        ConfigErrors: the configuration is wrong.
        UsageError: it names no ledger.
        StorageError: a ledger is not there, or cannot be read.
    """
    from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader

    with ExitStack() as stack:
        yield [stack.enter_context(open_reader(directory)) for directory in directories(arguments)]


def directories(arguments: argparse.Namespace) -> list[Path]:
    """Where the ledgers of a configuration are.

    Raises:
        ConfigErrors: the configuration is wrong.
        UsageError: it names no ledger.
    """
    from otel_usageflow.component import Kind
    from otel_usageflow.extensions.sqlite_storage import FACTORY, SqliteStorageConfig

    config = load_config(arguments, need_secrets=False)
    storages = [config.extensions[id_] for id_ in config.used(Kind.EXTENSION)]
    configs = [storage.config for storage in storages if storage.factory is FACTORY]
    if not configs:
        raise UsageError("no sqlite_storage is listed under service::extensions, so there is no ledger to read")
    return [one.directory for one in configs if isinstance(one, SqliteStorageConfig)]
