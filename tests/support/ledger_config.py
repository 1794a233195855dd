"""A configuration with a ledger and nothing that calls Stripe, for commands that read ledgers."""

from pathlib import Path

CONFIG = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:0"}}}}}}}}
processors:
  usage_policy:
    policies:
      - name: chat
        endpoint: POST /v1/chat
        user: {{header: x-account-id}}
        customer: {{metadata_field: account_id}}
        event_name: api_request
exporters: {{debug: {{}}}}
extensions: {{sqlite_storage: {{directory: "{directory}"}}}}
service:
  extensions: [sqlite_storage]
  pipelines: {{traces: {{receivers: [otlp], processors: [usage_policy], exporters: [debug]}}}}
"""


def configuration(directory: Path) -> Path:
    """A configuration whose ledger is in `directory`, beside it."""
    config = directory.parent / "usageflow.yaml"
    config.write_text(CONFIG.format(directory=directory))
    return config
