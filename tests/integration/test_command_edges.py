"""What commands say to arguments that nobody means, and about ledgers that are not there."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ledger_config import configuration
from ledgers import book

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.schema import MIGRATIONS

NO_UTF8 = "\udcff\udcfe"


async def empty_ledger(directory: Path) -> str:
    """A ledger without usage, and its configuration."""
    async with book(directory):
        pass
    return str(configuration(directory))


@pytest.mark.parametrize(
    "command",
    [
        ["explain", "--event", NO_UTF8],
        ["quarantine", "list", "--policy", NO_UTF8],
        ["quarantine", "discard", "--all", "--because", NO_UTF8, "--yes"],
        ["reconcile", "--customer", NO_UTF8],
        ["reconcile", "--counted", NO_UTF8, "--because", "x"],
        ["usage", "adjust", "--event", "x", "--because", NO_UTF8],
    ],
)
async def test_a_text_that_is_not_utf8_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """The ledger could not hold it; the message names the option, and there is no traceback."""
    path = await empty_ledger(tmp_path)
    assert main([*command, "--config", path]) == 1
    assert "is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["quarantine", "release", "--reason", "bad_quantity", "--yes", "--quantity"],
        ["usage", "adjust", "--event", "x", "--because", "x", "--quantity"],
    ],
)
@pytest.mark.parametrize("quantity", ["1e400000", "1e-400000", "0e999999", "NaN"])
async def test_an_absurd_quantity_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], quantity: str
) -> None:
    """At once, before its digits are written out."""
    path = await empty_ledger(tmp_path)
    assert main([*command, quantity, "--config", path]) == 1
    assert f"--quantity: '{quantity}'" in capsys.readouterr().err


def test_verify_says_that_there_is_no_ledger_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As every other command does, and nothing of disks and permissions."""
    assert main(["ledger", "verify", "--config", str(configuration(tmp_path / "none"))]) == 2
    assert "the service has not run with this directory" in capsys.readouterr().err


def test_recover_says_that_there_is_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the pen is no lost ledger."""
    assert main(["ledger", "recover", str(tmp_path / "leger.db")]) == 1
    assert "there is no file" in capsys.readouterr().err


async def test_recover_warns_of_a_newer_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a newer version keeps besides would be lost; a damaged header may say so wrongly, so it goes on."""
    await empty_ledger(tmp_path)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    assert main(["ledger", "recover", str(tmp_path / "ledger.db")]) == 0
    assert "a newer version wrote this ledger" in capsys.readouterr().err


def test_damage_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong, and what to do, are not the same words twice."""
    (tmp_path / "ledger.db").write_text("no database")
    assert main(["ledger", "verify", "--config", str(configuration(tmp_path))]) == 3
    assert capsys.readouterr().out.count("nothing was changed") == 1


def test_what_belongs_to_another_user_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger's directory is for its own user alone: anybody else gets a sentence, no traceback."""
    path = configuration(tmp_path / "ledger")
    really = Path.stat

    def stat(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:  # root may read everything, so feign it
        if self.name.startswith("ledger.db"):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return really(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    assert main(["usage", "--config", str(path)]) == 2
    assert "ledger.db: Permission denied; run the command as the user" in capsys.readouterr().err
