"""What people are told of requests with several spans: by `explain`, `usage`, `ledger export` and `ledger verify`."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from billing import batch
from ledger_config import configuration
from ledgers import book
from test_request_ids import NOON, bill, identified

from otel_usageflow.cli import main
from otel_usageflow.model.usage import UsageRecord


async def filed(directory: Path, capsys: pytest.CaptureFixture[str]) -> tuple[UsageRecord, UsageRecord]:
    """A request of a proxy without a user and of its application, billed; the two spans."""
    proxy, app = identified("r1", None, at=NOON + 1), identified("r1", quantity=3)
    async with book(directory) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(proxy), NOON + 60)
        await open_book.commit(batch(app), NOON + 60)
        assert await bill(open_book) == 3
    capsys.readouterr()
    return proxy, app


async def test_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the span that does not count it says which one does, and how it left quarantine."""
    proxy, app = await filed(tmp_path, capsys)
    command = ["explain", "--config", str(configuration(tmp_path)), proxy.trace_id.hex()]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert f"as span {app.span_id.hex()} of trace {app.trace_id.hex()}, which counts for it" in text
    assert "before, for no_user: same request" in text
    assert "quantity      none of its own" in text
    assert "standing      same request" in text
    assert main([*command, "--format", "json"]) == 0
    (usage,) = json.loads(capsys.readouterr().out)["usage"]
    assert (usage["standing"], usage["same_as"]) == ("same request", [app.trace_id.hex(), app.span_id.hex()])


async def test_only_what_counts_is_in_the_books(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The usage, its export and quarantine have one request; and the ledger verifies."""
    _, app = await filed(tmp_path, capsys)
    config = ["--config", str(configuration(tmp_path))]
    assert main(["usage", *config, "--format", "json", "--since", "2023-01-01", "--until", "2024-01-01"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(line["requests"], line["quantity"]) for line in told["usage"]] == [(1, "3")]
    assert (
        main(
            [
                "ledger",
                "export",
                *config,
                "--what",
                "usage",
                "--format",
                "jsonl",
                "--output",
                str(tmp_path / "usage.jsonl"),
            ]
        )
        == 0
    )
    rows = [json.loads(line) for line in (tmp_path / "usage.jsonl").read_text().splitlines()]
    capsys.readouterr()
    assert [row["span_id"] for row in rows] == [app.span_id.hex()]
    assert main(["quarantine", "list", *config, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["quarantine"] == []
    assert main(["ledger", "verify", *config]) == 0


async def test_a_line_that_was_altered_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An id or a charge that was changed from outside is no secret of the ledger's."""
    await filed(tmp_path, capsys)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        connection.execute("UPDATE request_ids SET same_as = NULL")
    assert main(["ledger", "verify", "--config", str(configuration(tmp_path))]) == 3
    assert "1 rows are not as they were written" in capsys.readouterr().out
