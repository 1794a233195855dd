"""`meters check` with ingest tokens: the meters of each company are looked at in its own account."""

import asyncio
import json
from pathlib import Path

import pytest
from companies import ACME, BETA, BOOK, OWN

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.connect.token_desk import TokenDesk
from otel_usageflow.ledger.ingest_tokens import IngestToken
from otel_usageflow.testing.stripe import StripeDouble

CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:0"}}}}}}}}
processors:
  usage_policy:
    policies:
      - {{name: chat, endpoint: POST /chat, user: {{header: x-account-id}}, customer: {{metadata_field: account_id}},
         event_name: api_request}}
exporters:
  stripe_meter:
    api_key: {key}
    endpoints: {{api: "{url}", meter_events: "{url}", connect: "{url}"}}
    sending_queue: {{storage: sqlite_storage}}
extensions: {{sqlite_storage: {{directory: "{directory}"}}}}
service:
  extensions: [sqlite_storage]
  pipelines: {{traces: {{receivers: [otlp], processors: [usage_policy], exporters: [stripe_meter]}}}}
"""


async def test_each_company_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One account has the meter, one lacks it, and one cannot be read: all three are told, and the status is 3."""
    directory, file = tmp_path / "ledger", tmp_path / "usageflow.yaml"
    desk = TokenDesk(directory)
    for account in (ACME, BETA):
        desk.create(IngestToken(f"it_{account}", "", BOOK, account, 1.0), account.encode(), "tests")
    gone = IngestToken("it_gone", "", BOOK, "acct_gone", 1.0, expires_at=2.0)
    desk.create(gone, b"gone", "tests")
    async with StripeDouble() as stripe:
        stripe.connect_account(ACME)
        stripe.add_meter("api_request")
        file.write_text(CONFIG.format(key=stripe.api_key, url=stripe.url, directory=directory))
        arguments = ["meters", "check", "--config", str(file), "--format", "json"]
        assert await asyncio.to_thread(main, arguments) == 3
        printed = capsys.readouterr()
        (exporter,) = json.loads(printed.out)["exporters"]
        verdicts = {one["account"] or OWN: one["verdict"] for one in exporter["meters"]}
        assert verdicts == {OWN: "ok", ACME: "missing"}
        assert BETA in printed.err
        assert "acct_gone" not in printed.err + printed.out
        stripe.connect_account(BETA)
        for account in (ACME, BETA):
            stripe.add_meter("api_request", account=account)
        assert await asyncio.to_thread(main, arguments) == 0
