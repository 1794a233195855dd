"""`connect token`: what it prints, what it keeps, and what it refuses."""

import json
from pathlib import Path

import pytest
from companies import ACME, BOOK

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.connect.token_desk import TokenDesk
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.ledger.ingest_tokens import PREFIX

CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:0"}}}}}}}}
processors:
  usage_policy:
    policies:
      - {{name: chat, endpoint: POST /chat, user: {{header: x-account-id}}, customer: {{metadata_field: account_id}},
         event_name: api_request}}
exporters:
  stripe_meter: {{api_key: "${{env:TEST_KEY}}", sending_queue: {{storage: sqlite_storage}}{more}}}
extensions: {{sqlite_storage: {{directory: "{directory}"}}}}
service:
  extensions: [sqlite_storage]
  pipelines: {{traces: {{receivers: [otlp], processors: [usage_policy], exporters: [stripe_meter]}}}}
"""


@pytest.fixture(name="config")
def config_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in test mode, with a ledger that is not there yet."""
    monkeypatch.setenv("TEST_KEY", "sk_test_abcdefghijklmnopqrstuvwx")
    return written(tmp_path)


def written(directory: Path, more: str = "") -> Path:
    """The configuration, with `more` in the exporter's section."""
    file = directory / "usageflow.yaml"
    file.write_text(CONFIG.format(directory=directory / "ledger", more=more))
    return file


def run(config: Path, *arguments: str) -> int:
    """The command's exit status."""
    return main(["connect", "token", *arguments, "--config", str(config)])


def test_a_token_is_shown_once(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Alone on standard output, so that it can be piped; `list` knows it by its id, and the ledger by its digest."""
    assert run(config, "create", ACME, "--name", "Acme's collector", "--expires", "90d") == 0
    made = capsys.readouterr()
    token = made.out.strip()
    assert token.startswith(PREFIX)
    assert made.out == f"{token}\n"
    assert token not in made.err
    assert "ingesttokenauth" in made.err  # nobody asks for tokens in this configuration
    assert run(config, "list", "--format", "json") == 0
    printed = capsys.readouterr().out
    assert token not in printed
    (told,) = json.loads(printed)["tokens"]
    assert (told["account"], told["exporter"], told["mode"]) == (ACME, "stripe_meter", "test")
    assert (told["state"], told["name"], told["last_used_at"]) == ("valid", "Acme's collector", None)
    assert run(config, "list") == 0
    assert told["id"] in capsys.readouterr().out


def test_revoking_is_done_once_and_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With who and why in the audit log; a second time changes nothing."""
    assert run(config, "create", "own", "--format", "json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["account"] is None
    for _ in range(2):
        assert run(config, "revoke", made["id"], "--because", "left") == 0
    (kept,) = TokenDesk(config.parent / "ledger").listed()
    assert kept.revoked_at is not None
    connection = open_for_reading(config.parent / "ledger")
    entries = [one for one in audit.entries(connection) if one.subject == f"ingest token {made['id']}"]
    connection.close()
    assert [(one.action, one.why) for one in entries] == [("token created", ""), ("token revoked", "left")]
    assert made["token"] not in repr(entries)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("create", "cus_123"), "'cus_123' is no Stripe account"),
        (("create", ACME, "--expires", "2001-01-01"), "is over already"),
        (("create", ACME, "--expires", "soon"), "--expires"),
        (("create", ACME, "--exporter", "stripe_meter/other"), "these there are: stripe_meter"),
        (("create", ACME, "--name", "x" * 201), "--name"),
        (("revoke", "it_none"), "there is no ingest token 'it_none'"),
        (("revoke", "ufi_secret"), "name its id"),
    ],
)
def test_what_makes_no_sense_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    """Exit 1, with what to do instead; nothing is kept."""
    assert run(config, *arguments) == 1
    assert why in capsys.readouterr().err
    assert TokenDesk(config.parent / "ledger").listed() == []


def test_an_exporter_of_one_account_has_no_tokens_of_others(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would let in what is then refused."""
    assert config.exists()
    fixed = written(tmp_path, ", account: acct_fixed")
    assert run(fixed, "create", ACME) == 1
    assert "bills in acct_fixed only" in capsys.readouterr().err
    assert run(fixed, "create", "acct_fixed") == 0


def test_own_is_the_account_of_the_exporter(tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One account has one name, so that a policy that names it is about spans with this token, too."""
    fixed = written(tmp_path, ", account: acct_fixed")
    assert run(fixed, "create", "own") == 0
    assert "billed in acct_fixed" in capsys.readouterr().err
    assert [one.account for one in TokenDesk(config.parent / "ledger").listed()] == ["acct_fixed"]


def test_a_token_belongs_to_the_mode_of_the_key(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command under a live key makes a token of the live book."""
    assert run(config, "create", ACME) == 0
    monkeypatch.setenv("TEST_KEY", "sk_live_abcdefghijklmnopqrstuvwx")
    assert run(config, "create", ACME) == 0
    books = [one.book for one in TokenDesk(config.parent / "ledger").listed()]
    assert sorted(books) == ["stripe_meter live", BOOK]
