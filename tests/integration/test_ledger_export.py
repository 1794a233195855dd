"""`ledger export` and `ledger audit`: the same rows in every format, exact, and complete."""

import json
import sqlite3
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from full_ledger import NOON, fill
from test_ledger_verify import CONFIG

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.export import COLUMNS, Type, What

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def config(tmp_path: Path) -> str:
    """The configuration of a ledger with something of everything."""
    await fill(tmp_path / "ledger")
    file = tmp_path / "usageflow.yaml"
    file.write_text(CONFIG.replace("DIRECTORY", str(tmp_path / "ledger")))
    return str(file)


def lines(config: str, what: str, output: Path, *more: str) -> list[dict[str, Any]]:
    """The rows of an export as JSON lines."""
    output.unlink(missing_ok=True)
    assert main(["ledger", "export", "--config", config, "--what", what, "--output", str(output), *more]) == 0
    return [json.loads(line) for line in output.read_text().splitlines()]


@pytest.mark.parametrize("what", What)
def test_parquet_and_json_say_the_same(tmp_path: Path, config: str, what: What) -> None:
    """Every column, in the documented order and type; quantities as text in both."""
    rows = lines(config, what, tmp_path / "rows.jsonl")
    parquet = ["--format", "parquet", "--output", str(tmp_path / "rows.parquet")]
    assert main(["ledger", "export", "--config", config, "--what", what, *parquet]) == 0
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table.column_names == list(COLUMNS[what])
    assert table.num_rows == len(rows)
    assert len(rows) > 0 or what is What.CORRECTIONS
    for line, row in zip(rows, table.to_pylist(), strict=True):
        assert list(line) == list(COLUMNS[what])
        for name, kind in COLUMNS[what].items():
            value = row[name]
            if kind is Type.MOMENT and value is not None:
                value = value.isoformat(timespec="microseconds").replace("+00:00", "Z")
            if kind is Type.JSON and value is not None:
                value = json.loads(value)
            assert line[name] == value
            assert kind is not Type.QUANTITY or value is None or isinstance(value, str)


def test_usage_adds_up_to_the_report(tmp_path: Path, config: str) -> None:
    """The exported requests, by user and standing, are what `usage` says; so are the quarantined ones."""
    exported: dict[tuple[str, str], tuple[int, Decimal]] = {}
    for what in ("usage", "quarantine"):
        for row in lines(config, what, tmp_path / "rows.jsonl"):
            if what == "quarantine" and row["kind"] != "request":
                continue
            key = (row["user"] or "", row.get("standing", "quarantined"))
            before = exported.get(key, (0, Decimal(0)))
            exported[key] = (before[0] + 1, before[1] + Decimal(row["quantity"]))
    told: dict[tuple[str, str], tuple[int, Decimal]] = {}
    with open_reader(tmp_path / "ledger") as reader:
        for line in reader.usage(None, None):
            key = (line.user, str(line.standing))
            before = told.get(key, (0, Decimal(0)))
            told[key] = (before[0] + line.requests, before[1] + Decimal(line.quantity))
    assert exported == told


def test_since_and_until(tmp_path: Path, config: str) -> None:
    """Two exports that meet hold every row once."""
    every = lines(config, "usage", tmp_path / "rows.jsonl")
    middle = str(NOON + 63)
    early = lines(config, "usage", tmp_path / "rows.jsonl", "--until", middle)
    late = lines(config, "usage", tmp_path / "rows.jsonl", "--since", middle)
    assert early
    assert late
    assert early + late == every


def test_standard_output_and_what_is_there(
    tmp_path: Path, config: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """`-` writes the rows and nothing else; a file that exists is not overwritten, and no half file is left."""
    assert main(["ledger", "export", "--config", config, "--what", "events", "--output", "-"]) == 0
    assert all(json.loads(line)["identifier"] for line in capfdbinary.readouterr().out.splitlines())
    output = tmp_path / "there.jsonl"
    output.write_text("mine")
    assert main(["ledger", "export", "--config", config, "--what", "audit", "--output", str(output)]) == 1
    assert output.read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_without_pyarrow_parquet_says_what_to_install(
    tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The extra is named, and nothing is written."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    arguments = ["--what", "usage", "--format", "parquet", "--output", str(tmp_path / "x.parquet")]
    assert main(["ledger", "export", "--config", config, *arguments]) == 1
    assert "otel-usageflow[parquet]" in capsys.readouterr().err
    assert not (tmp_path / "x.parquet").exists()


def test_every_column_is_documented() -> None:
    """docs/export.md names them all, table by table."""
    page = (ROOT / "docs" / "export.md").read_text()
    for what, columns in COLUMNS.items():
        section = page.split(f"## {what}\n")[1].split("\n## ")[0]
        assert [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")] == list(columns)


def test_the_audit_log_can_be_read(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As a table and as JSON, narrowed by time and action."""
    assert main(["ledger", "audit", "--config", config]) == 0
    told = capsys.readouterr().out
    assert "created" in told
    assert "seals" in told
    assert main(["ledger", "audit", "--config", config, "--action", "created", "--format", "json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["audit"]
    assert (entry["entry"], entry["actor"], entry["before"]) == (1, "service", {})
    assert main(["ledger", "audit", "--config", config, "--until", "2001-01-01"]) == 0
    assert "No entries" in capsys.readouterr().out


def test_a_damaged_ledger_says_how_to_recover(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands print the same words as the service."""
    with closing(sqlite3.connect(tmp_path / "ledger" / "ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'meter_events'").fetchone()
    with (tmp_path / "ledger" / "ledger.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xee" * 4096)
    for command in (["usage"], ["ledger", "export", "--what", "events", "--output", "-"]):
        assert main([*command, "--config", config]) == 2
        assert "otel-usageflow ledger recover" in capsys.readouterr().err
