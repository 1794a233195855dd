"""What people are told of several accounts, and of both modes, on one ledger: each stands for itself."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from billing import batch, record
from companies import ACME, BETA, OWN, of_company
from ledgers import Book, book

from otel_usageflow.cli import main
from otel_usageflow.model.usage import Reason

NOON = int(time.time()) // 60 * 60 - 600
CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:0"}}}}}}}}
processors:
  usage_policy:
    policies:
      - {{name: chat, endpoint: POST /chat, user: {{header: x-account-id}}, customer: {{metadata_field: account_id}},
         event_name: api_request}}
exporters: {{stripe_meter: {{api_key: sk_test_abcdefghijklmnopqrstuvwx, sending_queue: {{storage: sqlite_storage}}}}}}
extensions: {{sqlite_storage: {{directory: "{directory}"}}}}
service:
  extensions: [sqlite_storage]
  pipelines: {{traces: {{receivers: [otlp], processors: [usage_policy], exporters: [stripe_meter]}}}}
"""
NUMBERS = {OWN: 1, ACME: 2, BETA: 3}
"""Requests of a user acme in each account, in test mode; in live mode ten times as many."""


@asynccontextmanager
async def full_book(directory: Path) -> AsyncIterator[Book]:
    """The same user and event name, taken and held in three accounts and two modes, all with the same ids."""
    async with book(directory / "ledger") as opened:
        live = opened.storage.ledger("stripe_meter live", 10)
        number = 0
        for account, many in NUMBERS.items():
            for ledger, times in ((opened.ledger, 1), (live, 10)):
                for number in range(many * times):
                    good = record(at=NOON, number=number + 1)
                    bad = record(None, at=NOON, number=number + 1001, reason=Reason.NO_USER)
                    await ledger.commit(of_company(batch(good, bad), account), NOON)
        yield opened


def told(capsys: pytest.CaptureFixture[str], directory: Path, *arguments: str) -> Any:
    """What a command prints as JSON."""
    file = directory / "usageflow.yaml"
    file.write_text(CONFIG.format(directory=directory / "ledger"))
    capsys.readouterr()  # what was logged so far
    assert main([*arguments, "--config", str(file), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def counted(lines: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """(mode, account) -> requests, of lines of which there is one each."""
    found = {(one.get("mode", ""), one["account"] or OWN): one["requests"] for one in lines}
    assert len(found) == len(lines)
    return found


BOTH = {
    (mode, account): many * times for mode, times in (("test", 1), ("live", 10)) for account, many in NUMBERS.items()
}


async def test_usage_is_told_by_account_and_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each, whatever it is asked by; filters leave the rest out."""
    async with full_book(tmp_path):
        lines = told(capsys, tmp_path, "usage")["usage"]
        assert counted([one for one in lines if one["standing"] == "collecting"]) == BOTH
        by_user = told(capsys, tmp_path, "usage", "--by", "user")["usage"]
        sums = {(one["mode"], one["standing"]): one["requests"] for one in by_user if one["user"] == "acme"}
        assert sums == {("test", "collecting"): 6, ("live", "collecting"): 60}
        of_one = told(capsys, tmp_path, "usage", "--account", BETA, "--mode", "live")["usage"]
        assert {(one["account"], one["requests"]) for one in of_one} == {(BETA, 30)}
        own = told(capsys, tmp_path, "usage", "--account", "own", "--mode", "test")["usage"]
        assert {(one["account"], one["requests"]) for one in own} == {(None, 1)}


async def test_quarantine_is_told_by_account_and_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Groups and single requests; a release reaches only what is meant."""
    async with full_book(tmp_path):
        assert counted(told(capsys, tmp_path, "quarantine", "list")["quarantine"]) == BOTH
        entries = told(capsys, tmp_path, "quarantine", "list", "--entries", "--account", ACME)["requests"]
        assert {(one["account"], one["mode"]) for one in entries} == {(ACME, "test"), (ACME, "live")}
        live = told(capsys, tmp_path, "quarantine", "list", "--mode", "live", "--account", "own")["quarantine"]
        assert [(one["requests"], one["account"]) for one in live] == [(10, None)]
        change = ("release", "--account", ACME, "--mode", "test", "--as-user", "acme", "--because", "known", "--yes")
        assert main(["quarantine", *change, "--config", str(tmp_path / "usageflow.yaml")]) == 0
        assert capsys.readouterr().out.startswith("released: 2 requests")
        left = counted(told(capsys, tmp_path, "quarantine", "list")["quarantine"])
        assert left == {place: many for place, many in BOTH.items() if place != ("test", ACME)}


async def test_a_trace_is_told_with_its_accounts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same ids in three accounts are three requests of each mode, each with its account."""
    async with full_book(tmp_path):
        trace = (1).to_bytes(16, "big").hex()
        explained = told(capsys, tmp_path, "explain", trace)
        accounts = sorted(str(one["account"]) for one in explained["usage"])
        assert accounts == sorted([*(2 * [ACME, BETA]), "None", "None"])
