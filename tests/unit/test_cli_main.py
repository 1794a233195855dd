"""What the shell of the command line makes of what a command returns or raises."""

import argparse
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from otel_usageflow import cli
from otel_usageflow.errors import (
    ConfigErrors,
    ConfigProblem,
    LedgerInUse,
    StartError,
    StorageCorrupt,
    UsageError,
)


def with_command(monkeypatch: pytest.MonkeyPatch, run: Callable[[argparse.Namespace], int]) -> None:
    """Put a command `try` beside the others."""

    def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        subparsers.add_parser("try").set_defaults(run=run)

    monkeypatch.setattr(cli, "COMMANDS", (*cli.COMMANDS, SimpleNamespace(register=register)))


@pytest.mark.parametrize("status", [0, 1, 3])
def test_status(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """What a command returns is the exit status."""
    with_command(monkeypatch, lambda _arguments: status)
    assert cli.main(["try"]) == status


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConfigErrors([ConfigProblem("a::b", "wrong"), ConfigProblem("c", "too")]), 1, "a::b: wrong\nc: too\n"),
        (UsageError("no such file"), 1, "otel-usageflow: no such file\n"),
        (StartError("port in use"), 2, "otel-usageflow: port in use\n"),
        (LedgerInUse("in use"), 2, "otel-usageflow: in use\n"),
        (StorageCorrupt("damaged"), 2, "otel-usageflow: damaged\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    message: str,
) -> None:
    """An error that a user can mend is a message without a traceback, and its kind is the exit status."""

    def run(_arguments: argparse.Namespace) -> int:
        raise error

    with_command(monkeypatch, run)
    assert cli.main(["try"]) == status
    assert capsys.readouterr() == ("", message)


def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything else is a bug, and shows as one."""

    def run(_arguments: argparse.Namespace) -> int:
        raise ZeroDivisionError

    with_command(monkeypatch, run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["try"])
