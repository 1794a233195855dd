"""The configuration of the webhook: what is wrong is said with its place, and its secrets are never shown."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_usageflow.cli import main
from otel_usageflow.components import registry
from otel_usageflow.config.load import load
from otel_usageflow.errors import ConfigErrors

WHERE = "exporters::stripe_meter::webhook"


def written(directory: Path, webhook: dict[str, Any]) -> Path:
    """A configuration with this webhook."""
    policy = {
        "name": "chat",
        "endpoint": "POST /chat",
        "user": {"header": "x-account-id"},
        "customer": {"metadata_field": "account_id"},
        "event_name": "api_request",
    }
    pipeline = {"receivers": ["otlp"], "processors": ["usage_policy"], "exporters": ["stripe_meter"]}
    tree = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": "127.0.0.1:0"}}}},
        "processors": {"usage_policy": {"policies": [policy]}},
        "exporters": {
            "stripe_meter": {
                "api_key": "sk_test_1",
                "sending_queue": {"storage": "sqlite_storage"},
                "webhook": webhook,
            }
        },
        "extensions": {"sqlite_storage": {"directory": str(directory / "l")}, "admin/public": {}, "health_check": {}},
        "service": {
            "extensions": ["sqlite_storage", "admin/public", "health_check"],
            "pipelines": {"traces": pipeline},
        },
    }
    path = directory / "usageflow.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize(
    ("webhook", "said"),
    [
        ({"admin": "admin/public"}, f"{WHERE}: needs signing_secret, or a list of them as signing_secrets"),
        ({"admin": "admin/public", "signing_secret": "sk_test_1"}, f"{WHERE}::signing_secret: is no signing secret"),
        (
            {"admin": "admin/public", "signing_secrets": ["whsec_1", "x"]},
            f"{WHERE}::signing_secrets::1: is no signing",
        ),
        ({"signing_secret": "whsec_1"}, f"{WHERE}::admin: "),
        ({"admin": "admin", "signing_secret": "whsec_1"}, f"{WHERE}::admin: admin is not configured"),
        ({"admin": "health_check", "signing_secret": "whsec_1"}, f"{WHERE}::admin: health_check is no admin"),
        ({"admin": "admin/public", "signing_secret": "whsec_1", "path": "stripe"}, f"{WHERE}::path: must be a path"),
        ({"admin": "admin/public", "signing_secret": "whsec_1", "tolerance": "0s"}, f"{WHERE}: tolerance must be"),
        ({"admin": "admin/public", "signing_secret": "whsec_1", "tolerance": "2h"}, f"{WHERE}: tolerance must be"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, webhook: dict[str, Any], said: str) -> None:
    """Each mistake is one error that begins with its place, and does not repeat what looks like a secret."""
    with pytest.raises(ConfigErrors) as caught:
        load([str(written(tmp_path, webhook))], [], registry())
    (problem,) = map(str, caught.value.problems)
    assert problem.startswith(said)
    assert "whsec_1" not in problem
    assert "sk_test_1" not in problem


def test_secrets_are_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`print-config` shows where they stand, and not what they are."""
    webhook = {"admin": "admin/public", "signing_secret": "whsec_one", "signing_secrets": ["whsec_two"]}
    assert main(["print-config", "--config", str(written(tmp_path, webhook))]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)["exporters"]["stripe_meter"]["webhook"]
    assert printed == {"admin": "admin/public", "signing_secret": "[REDACTED]", "signing_secrets": ["[REDACTED]"]}


def test_all_secrets_are_good(tmp_path: Path) -> None:
    """One and a list may stand beside each other, as in a rotation; blanks around them are no part of them."""
    webhook = {"admin": "admin/public", "signing_secret": " whsec_one\n", "signing_secrets": ["whsec_two"]}
    read = load([str(written(tmp_path, webhook))], [], registry())
    config: Any = read.exporters["stripe_meter"].config
    assert config.webhook.secrets == ["whsec_one", "whsec_two"]
    assert config.webhook.path == "/stripe/webhook"
