"""Which exporter a command of `otel-usageflow connect` is about."""

import argparse
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import add_config_arguments
from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.cli.books import Book
    from otel_usageflow.exporters.stripe_meter.connect_config import ConnectConfig


def add_exporter_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, `--set` and `--exporter`."""
    add_config_arguments(parser)
    parser.add_argument(
        "--exporter", metavar="ID", help="which stripe_meter exporter, where several have a connect section"
    )


def connecting_book(arguments: argparse.Namespace) -> "tuple[Book, ConnectConfig]":
    """The exporter that is meant, with its section `connect`.

    Raises:
        ConfigErrors: the configuration is wrong.
        UsageError: there is none, or several and none was chosen.
    """
    from otel_usageflow.cli.books import books

    found = {book.exporter: (book, book.config.connect) for book in books(arguments) if book.config.connect}
    if not found:
        raise UsageError(
            "no stripe_meter exporter has a section connect, so no account can be connected; add one with client_id, "
            "redirect_uri, admin and encryption_key, as docs/connect.md shows"
        )
    chosen = arguments.exporter
    if chosen is None and len(found) > 1:
        raise UsageError(f"several exporters connect accounts; choose one with --exporter: {', '.join(found)}")
    if chosen is not None and chosen not in found:
        raise UsageError(f"--exporter: {chosen!r} has no section connect; these have: {', '.join(found)}")
    book, connect = found[chosen if chosen is not None else next(iter(found))]
    assert connect is not None
    return book, connect
