"""The books of a configuration: each `stripe_meter` exporter that a pipeline uses, with the ledger of its book."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import load_config
from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig


@dataclass(frozen=True, slots=True)
class Book:
    """One exporter and its ledger."""

    exporter: str
    """`type[/name]`."""
    directory: Path
    """Of the ledger."""
    config: "StripeMeterConfig"

    @property
    def name(self) -> str:
        """The book's name in the ledger; test and live mode are two books."""
        return f"{self.exporter} {self.config.mode}"


def books(arguments: argparse.Namespace, *, need_secrets: bool = True) -> list[Book]:
    """The books of the configuration that the arguments name.

    Raises:
        ConfigErrors: the configuration is wrong.
        UsageError: it sends nothing to Stripe.
    """
    from otel_usageflow.component import Kind
    from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
    from otel_usageflow.extensions.sqlite_storage import SqliteStorageConfig

    if not arguments.config:
        raise UsageError("name the configuration with --config FILE; it says where the ledger is")
    config = load_config(arguments, need_secrets=need_secrets)
    found = []
    for id_ in config.used(Kind.EXPORTER):
        exporter = config.exporters[id_].config
        if isinstance(exporter, StripeMeterConfig):
            storage = config.extensions[exporter.sending_queue.storage].config
            if isinstance(storage, SqliteStorageConfig):
                found.append(Book(id_, storage.directory, exporter))
    if not found:
        raise UsageError("no pipeline of this configuration has a stripe_meter exporter, so nothing is billed by it")
    return found
