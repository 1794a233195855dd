"""The command `quarantine` on a ledger of a test, and whether that ledger is still right."""

from pathlib import Path

from ledger_config import configuration

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.extensions.sqlite_storage.proof.balance import check_conservation
from otel_usageflow.ledger.verification import Verification


def quarantine(directory: Path, command: str, *arguments: str) -> int:
    """Run `quarantine` on the ledger in a directory."""
    return main(["quarantine", command, "--config", str(configuration(directory)), *arguments])


def nothing_is_wrong(directory: Path) -> None:
    """Every record stands at one place, and every sum is that of its records."""
    found = Verification()
    connection = open_for_reading(directory)
    connection.execute("BEGIN")
    check_conservation(connection, found, lambda *_: None)
    connection.close()
    assert found.findings == []
