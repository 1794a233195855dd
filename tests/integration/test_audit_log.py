"""What the storage writes into the audit log by itself: that it was made, what bills, and seals."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from billing import QuietHealth, batch, record
from full_ledger import LATER, NOON, fill
from ledgers import book
from test_ledger_verify import CONFIG

from otel_usageflow.component import Context
from otel_usageflow.components import registry
from otel_usageflow.config.load import load
from otel_usageflow.extensions.sqlite_storage import SqliteStorage, SqliteStorageConfig
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.extensions.sqlite_storage.proof import audit, seal
from otel_usageflow.extensions.sqlite_storage.schema import MIGRATIONS
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.service.billing_settings import billing_settings
from otel_usageflow.service.service import Service


def entries(directory: Path, action: str) -> list[dict[str, Any]]:
    """The entries with an action."""
    with closing(open_for_reading(directory)) as connection:
        return [
            {"before": json.loads(one.before), "after": json.loads(one.after), "actor": one.actor}
            for one in audit.entries(connection)
            if one.action == action
        ]


async def test_a_new_ledger_says_when_it_was_made(tmp_path: Path) -> None:
    """The first entry is the ledger's creation, once."""
    for _ in range(2):
        async with book(tmp_path):
            pass
    (created,) = entries(tmp_path, "created")
    assert created["actor"] == "service"
    assert created["after"]["schema"] == len(MIGRATIONS)


async def test_changed_settings_are_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start writes down what bills, with what it was before, and only if it is different. Secrets never."""
    monkeypatch.setenv("NO_KEY", "sk_test_very_secret")
    file = tmp_path / "usageflow.yaml"
    text = CONFIG.replace("DIRECTORY", str(tmp_path / "ledger")).replace(
        "exporters: {stripe_meter: {",
        'exporters: {stripe_meter: {endpoints: {api: "http://127.0.0.1:1", meter_events: "http://127.0.0.1:1", '
        'connect: "http://127.0.0.1:1"}, ',
    )
    for status in ("2xx", "2xx", "any", "2xx"):
        file.write_text(text.replace("event_name:", f"status: {status}, event_name:"))
        service = Service(load([str(file)], [], registry()))
        try:
            await service.start()
        finally:
            await service.stop()
    told = entries(tmp_path / "ledger", "configured")
    policies = [one["after"]["processors"]["usage_policy"]["policies"][0]["status"] for one in told]
    assert policies == ["2xx", "any", "2xx"]
    assert [one["before"] for one in told] == [{}, told[0]["after"], told[1]["after"]]
    assert told[0]["after"]["exporters"]["stripe_meter"]["api_key"] == "[REDACTED]"
    assert told[0]["after"]["pipelines"]["traces"]["exporters"] == ["stripe_meter"]
    assert b"very_secret" not in b"".join(path.read_bytes() for path in (tmp_path / "ledger").iterdir())


def test_what_does_not_bill_is_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints, logs and components that no pipeline uses change nothing."""
    monkeypatch.setenv("NO_KEY", "sk_test_x")
    file = tmp_path / "usageflow.yaml"
    file.write_text(CONFIG.replace("DIRECTORY", str(tmp_path)))
    plain, other, unused = (
        billing_settings(load([str(file)], sets, registry()))
        for sets in (
            [],
            ["service::telemetry::logs::level=debug", "receivers::otlp::protocols::grpc::endpoint=127.0.0.1:4"],
            ["exporters::debug/unused={}"],
        )
    )
    assert plain == other == unused
    assert json.loads(json.dumps(plain)) == plain


async def test_settings_wait_for_a_disk_that_refuses(tmp_path: Path) -> None:
    """A full disk does not keep the service from starting; the entry is written as soon as there is room."""
    async with book(tmp_path) as open_book:
        run = open_book.storage._writer.run
        await run(lambda c: c.execute("PRAGMA max_page_count = 1").fetchall(), weight=0)
        settings = {"processors": {f"usage_policy/{n}": "x" * 1_000 for n in range(300)}}
        await open_book.storage.note_configuration(settings)
        assert entries(tmp_path, "configured") == []
        await run(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchall(), weight=0)
        await open_book.storage._keeper._note()
        (told,) = entries(tmp_path, "configured")
        assert told["after"] == settings


async def test_seals_are_made_in_the_background(tmp_path: Path) -> None:
    """An hour after the last seals, what is new is sealed without anybody asking."""
    await fill(tmp_path)
    async with book(tmp_path) as open_book:
        await open_book.commit(batch(record("new", at=NOON)), NOON)
    before = len(entries(tmp_path, "sealed"))
    clock = SteadyClock(wall=lambda: int(LATER + 3_601) * 10**9)
    context = Context(id="sqlite_storage", health=QuietHealth(), extensions={}, clock=clock)
    async with SqliteStorage(SqliteStorageConfig(directory=tmp_path), context), asyncio.timeout(10):
        while len(entries(tmp_path, "sealed")) == before:  # noqa: ASYNC110  (the ledger has no event for it)
            await asyncio.sleep(0.01)
    newest = entries(tmp_path, "sealed")[-1]["after"]
    assert [one["part"] for one in newest["seals"]] == ["series"]
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        assert seal.due(connection, LATER + 3_700) is None
