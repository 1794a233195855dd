"""`doctor` on Stripe, the key and the network: each with the account and what to do, exit 3 where money is lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from billing import billing, record
from compared import config
from network import ConnectProxy, listening_with

from otel_usageflow.cli import main
from otel_usageflow.cli.finding import Level
from otel_usageflow.testing.stripe import Fault, StripeDouble

KEY = "rk_test_doctor"
READS = {"billing_meter_read", "customer_read", "event_read", "billing_meter_event_write"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no authority but those of the test."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
async def stripe() -> AsyncIterator[StripeDouble]:
    """A Stripe with the meter, and a restricted key that may do what is needed."""
    async with StripeDouble(KEY, permissions={KEY: READS}) as double:
        double.add_meter("api_request")
        yield double


def written(folder: Path, stripe: StripeDouble, **exporter: Any) -> Path:
    """The configuration with other settings of the exporter."""
    path = config(folder, stripe)
    values = yaml.safe_load(path.read_text())
    values["exporters"]["stripe_meter"].update(exporter)
    path.write_text(yaml.safe_dump(values))
    return path


async def doctor(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, str]]]:
    """Exit status and findings; nothing of a key is in them."""
    capsys.readouterr()
    status = await asyncio.to_thread(main, ["doctor", "--config", str(path), "--format", "json"])
    out, err = capsys.readouterr()
    assert err == ""
    assert KEY not in out
    return status, json.loads(out)["findings"]


def finding(findings: list[dict[str, str]], text: str) -> dict[str, str]:
    """The one that says this."""
    (found,) = [one for one in findings if text in one["text"]]
    return found


async def test_a_key_that_may_do_all_gets_the_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble
) -> None:
    """The link makes the key that is needed, in the key's mode; that a test key bills nobody is said."""
    stripe.api.keys.add("sk_test_all")
    _, findings = await doctor(written(tmp_path, stripe, api_key="sk_test_all"), capsys)
    remedy = finding(findings, "it may do everything")["remedy"]
    assert "https://dashboard.stripe.com/test/apikeys/create?name=otel-usageflow&" in remedy
    assert all(f"permissions[]=rak_{name}" in remedy for name in READS)
    assert "a test key: nothing is billed" in finding(findings, "a test key")["text"]


@pytest.mark.parametrize(
    ("granted", "level"), [(READS, Level.OK), (READS - {"billing_meter_event_write"}, Level.PROBLEM)]
)
async def test_the_stream_is_tried_by_a_session(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], granted: set[str], level: Level
) -> None:
    """With `api: v2_stream` the right to send is tried without sending: by opening a session."""
    async with StripeDouble(KEY, permissions={KEY: granted}) as stripe:
        stripe.add_meter("api_request")
        status, findings = await doctor(written(tmp_path, stripe, api="v2_stream"), capsys)
    found = finding(findings, "session of the stream")
    assert found["level"] == level
    assert status == (3 if level is Level.PROBLEM else 0)
    assert stripe.accepted == []


async def test_access_to_each_connected_account(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble
) -> None:
    """An account that ended the connection is named, once, with what to do."""
    stripe.settings.account_access = "connected"
    status, findings = await doctor(written(tmp_path, stripe, account="acct_gone"), capsys)
    assert status == 3
    found = finding(findings, "the key may not act for acct_gone")
    assert "acct_gone" in found["subject"]
    assert "have it connected again" in found["remedy"]


async def test_usage_of_the_other_mode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble
) -> None:
    """A test key on a ledger with live usage that waits: a problem, because nobody sends it."""
    async with billing(tmp_path, stripe, api_key="rk_live_revoked") as running:
        await running.bill(record(quantity=1))
    status, findings = await doctor(written(tmp_path, stripe), capsys)
    assert status == 3
    found = finding(findings, "it holds live usage that waits to be sent, and the key is one of test mode")
    assert "put back a live key" in found["remedy"]


async def test_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy is named without its password; one that refuses, or cannot work, is a problem in words."""
    endpoint = {"endpoints": {"api": "https://stripe.test"}}
    async with listening_with(ConnectProxy("me", "secret").serve) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:wrong-secret@127.0.0.1:{port}")
        status, findings = await doctor(written(tmp_path, stripe, **endpoint), capsys)
    assert status == 3
    assert finding(findings, f"go through the proxy http://127.0.0.1:{port} with a user")["level"] == Level.NOTE
    assert "HTTPS_PROXY=http://user:password@" in finding(findings, "asks who we are (407)")["remedy"]
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:wrong-secret@proxy")
    status, more = await doctor(written(tmp_path, stripe, **endpoint), capsys)
    assert status == 3
    assert "HTTPS_PROXY=http://" in finding(more, "a socks5:// proxy")["remedy"]
    assert "wrong-secret" not in str(findings + more)


async def test_what_is_not_stripe(tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble) -> None:
    """A Stripe that fails is a warning that passes; half an answer too."""
    stripe.fault("/v1/customers", Fault.UNAVAILABLE, times=None)
    status, findings = await doctor(written(tmp_path, stripe), capsys)
    assert status == 0
    assert "status.stripe.com" in finding(findings, "reading customers: 503")["remedy"]
