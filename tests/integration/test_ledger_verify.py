"""`ledger verify` and the seals: whatever somebody changes in the file behind our back is named."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from billing import batch, record
from full_ledger import LATER, NOON, fill
from ledgers import book

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.proof import audit, seal
from otel_usageflow.extensions.sqlite_storage.upkeep.maintenance import verify_ledger
from otel_usageflow.ledger.audit import Change, pruned
from otel_usageflow.ledger.verification import Head, Verification

ACCEPTED = "(SELECT min(event_id) FROM meter_events WHERE state = 2 AND parts = 1)"


def verified(path: Path, expect: Head | None = None) -> Verification:
    """What a verification says."""
    return verify_ledger(path, expect, lambda *_: None)


@pytest.fixture
async def ledger(tmp_path: Path) -> Path:
    """A ledger with something of everything."""
    await fill(tmp_path)
    return tmp_path


def change(directory: Path, *statements: str) -> None:
    """Change the file from outside."""
    with closing(sqlite3.connect(directory / "ledger.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def test_a_whole_ledger_has_no_findings(ledger: Path) -> None:
    """Everything is looked at, and the head of the audit log is told."""
    result = verified(ledger)
    assert result.ok, result.findings
    looked = result.looked_at
    assert (
        min(looked[what] for what in ("records", "windows", "meter_events", "seals", "slices", "audit_entries")) > 0
    )
    assert result.head is not None
    assert verified(ledger, Head(result.head.entry, result.head.hash[:16])).ok


TAMPERED = {
    "a customer": f"UPDATE meter_events SET customer = 'cus_other' WHERE event_id = {ACCEPTED}",
    "a value": f"UPDATE meter_events SET value = '1' WHERE event_id = {ACCEPTED}",
    "an answer": f"UPDATE meter_events SET state = 3, reason = 'rejected' WHERE event_id = {ACCEPTED}",
    "a user": "UPDATE series SET user = 'somebody else' WHERE series_id = 1",
    "a removed event": "DELETE FROM meter_events WHERE event_id = 2",
    "the last event": "DELETE FROM meter_events WHERE event_id = (SELECT max(event_id) FROM meter_events)",
    "a quantity": "UPDATE records SET quantity = 999 WHERE key = (SELECT max(key) FROM records)",
    "a removed request": "DELETE FROM records WHERE key = (SELECT min(key) FROM records)",
    "a window": "UPDATE windows SET total = total + 1 WHERE event_id = 5",
    "a removed window": "DELETE FROM open_windows",
    "a day": "UPDATE daily SET requests = requests + 1",
    "an audit entry": "UPDATE audit SET actor = 'nobody' WHERE entry = 2",
    "a removed audit entry": "DELETE FROM audit WHERE entry = 2",
    "quarantine": "UPDATE quarantine SET quantity = 7",
    "what is pruned": "UPDATE ledger SET pruned_to = 1",
    "an exporter": "DELETE FROM books",
    "the index of traces": "UPDATE trace_slices SET records = records - 128",
    "a copy": "UPDATE ledger SET copied_at = 1",
    "an emptied window": "UPDATE windows SET last_ns = last_ns + 1 WHERE requests = 0",
    "an index": "DROP INDEX unsettled_events",
}


@pytest.mark.parametrize("statement", TAMPERED.values(), ids=TAMPERED.keys())
async def test_what_was_tampered_with_is_found(ledger: Path, statement: str) -> None:
    """Each change from outside is a finding, with what to do."""
    change(ledger, statement)
    result = verified(ledger)
    assert not result.ok
    assert all(finding.remedy for finding in result.findings)


async def test_the_first_broken_entry_is_named(ledger: Path) -> None:
    """The audit log says where it was changed."""
    change(ledger, "UPDATE audit SET why = 'because' WHERE entry = 2")
    assert [one.where for one in verified(ledger).findings if one.check == "audit"] == ["audit entry 2"]


async def test_a_cut_off_tail_shows_to_who_noted_the_head(ledger: Path) -> None:
    """Without its last entries the chain still fits; the noted head is what tells."""
    head = verified(ledger).head
    assert head is not None
    change(ledger, f"DELETE FROM audit WHERE entry = {head.entry}")
    assert "audit" not in verified(ledger).counts
    assert [one.check for one in verified(ledger, head).findings if one.check == "audit"] == ["audit"]


async def test_a_log_that_was_written_anew_shows_to_who_noted_the_head(ledger: Path) -> None:
    """Whoever changes an entry and all that follow has another head."""
    head = verified(ledger).head
    assert head is not None
    with closing(sqlite3.connect(ledger / "ledger.db")) as connection, connection:
        old = list(audit.entries(connection))
        connection.execute("DELETE FROM audit")
        for entry in old:
            change_ = Change("nobody", entry.action, entry.subject, json.loads(entry.before), json.loads(entry.after))
            audit.record(connection, change_, entry.at)
    assert verified(ledger).ok
    assert not verified(ledger, head).ok


async def test_pruning_that_was_told_is_no_finding(ledger: Path) -> None:
    """Meter events that pruning removed, and told of, are not missing; what it left is sealed again."""
    with closing(sqlite3.connect(ledger / "ledger.db")) as connection, connection:
        gone = [
            row[0]
            for row in connection.execute(
                "SELECT event_id FROM meter_events WHERE state = 2 AND parts = 1 AND timestamp < ?", (NOON + 60,)
            )
        ]
        for event_id in gone:
            connection.execute("DELETE FROM meter_events WHERE event_id = ?", (event_id,))
        audit.record(connection, pruned(min(gone), max(gone), len(gone)), LATER)
    assert "seals" not in verified(ledger).counts
    with closing(sqlite3.connect(ledger / "ledger.db")) as connection, connection:
        sealing = seal.due(connection, LATER + 1)
        assert sealing is not None
        assert {one.part for one in sealing.seals} == {"meter_events", "answers"}
        assert seal.write(connection, sealing, LATER + 1)
        assert seal.due(connection, LATER + 2) is None
    assert "seals" not in verified(ledger).counts
    change(ledger, "UPDATE meter_events SET message = 'other' WHERE state = 3")
    assert "seals" in verified(ledger).counts
    change(ledger, f"DELETE FROM meter_events WHERE event_id = {max(gone) + 1}")
    assert any("missing" in finding.problem for finding in verified(ledger).findings)


async def test_it_works_while_the_service_writes(tmp_path: Path) -> None:
    """A verification sees one moment, whatever is committed meanwhile."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(*(record(at=NOON + n) for n in range(100))), NOON)
        seen: list[int] = []

        def meanwhile(*_: object) -> None:
            if not seen:
                seen.append(1)
                with closing(sqlite3.connect(tmp_path / "ledger.db")) as other, other:
                    other.execute("UPDATE records SET quantity = 5")

        assert verify_ledger(tmp_path, None, meanwhile).ok
        assert seen
        assert not verified(tmp_path).ok


async def test_seals_are_made_in_pieces_and_not_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal covers at most so many rows, is due when so many are new, and by the hour otherwise."""
    monkeypatch.setattr(seal, "EVERY", 10)
    await fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        seals = seal.in_force(connection).values()
        events = sorted((one.first, one.last) for one in seals if one.part == "meter_events")
        assert [first for first, _ in events] == [1, *(last + 1 for _, last in events[:-1])]
        assert max(one.rows for one in seals) == 10
        assert seal.due(connection, LATER) is None


CONFIG = """
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}}}}
processors:
  usage_policy:
    policies:
      - {name: chat, endpoint: POST /chat, user: {header: x-account-id}, customer: {metadata_field: account_id},
         event_name: api_request}
exporters: {stripe_meter: {api_key: "${env:NO_KEY}", sending_queue: {storage: sqlite_storage}}}
extensions: {sqlite_storage: {directory: DIRECTORY}}
service:
  extensions: [sqlite_storage]
  pipelines: {traces: {receivers: [otlp], processors: [usage_policy], exporters: [stripe_meter]}}
"""


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A configuration of the ledger in `tmp_path`."""
    file = tmp_path_factory.mktemp("config") / "usageflow.yaml"
    file.write_text(CONFIG.replace("DIRECTORY", str(tmp_path)))
    return str(file)


async def test_the_command(ledger: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0 and the head; 3 and the findings; JSON with the same."""
    assert main(["ledger", "verify", "--config", config]) == 0
    told = capsys.readouterr().out
    assert "The ledger is whole" in told
    head = told.rsplit(" ", 1)[1].strip()
    assert main(["ledger", "verify", "--config", config, "--expect", head, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert f"{document['head']['entry']}:{document['head']['hash']}" == head
    shutil.copy(ledger / "ledger.db", ledger / "copy.db")
    change(ledger, "UPDATE daily SET requests = requests + 1")
    assert main(["ledger", "verify", "--config", config]) == 3
    assert "totals" in capsys.readouterr().out
    assert main(["ledger", "verify", "--file", str(ledger / "copy.db")]) == 0
    (ledger / "ledger.db").write_bytes(b"nothing of ours" * 1_000)
    assert main(["ledger", "verify", "--config", config, "--format", "json"]) == 3
    capsys.readouterr()


MISUSE: dict[str, Callable[[str], list[str]]] = {
    "no hash": lambda config: ["verify", "--config", config, "--expect", "17"],
    "a short hash": lambda config: ["verify", "--config", config, "--expect", "17:abc"],
    "no configuration": lambda _: ["verify"],
    "no such file": lambda _: ["verify", "--file", "/nowhere/ledger.db"],
    "no such storage": lambda config: ["audit", "--config", config, "--storage", "other"],
}


@pytest.mark.parametrize("arguments", MISUSE.values(), ids=MISUSE.keys())
def test_misuse_is_a_plain_error(
    config: str, capsys: pytest.CaptureFixture[str], arguments: Callable[[str], list[str]]
) -> None:
    """One line on standard error, and status 1."""
    assert main(["ledger", *arguments(config)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_there_is_no_ledger_yet(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made by looking."""
    assert main(["ledger", "verify", "--config", config]) == 2
    assert "no ledger" in capsys.readouterr().err
