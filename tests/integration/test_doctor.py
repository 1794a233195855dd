"""`doctor`: everything that could lose money is told with its remedy, on good set-ups and on broken ones."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import yaml
from billing import batch, record
from compared import config, past
from running_service import running_service
from span_builder import payload, span

from otel_usageflow.cli import main
from otel_usageflow.cli.doctor_service import of_metrics
from otel_usageflow.cli.finding import Level
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.model.usage import Reason
from otel_usageflow.testing.stripe import Fault, ManualClock, StripeDouble

KEY = "rk_test_doctor"
READS = {"billing_meter_read", "customer_read", "event_read", "billing_meter_event_write"}


class Verdict(NamedTuple):
    """What the command said."""

    status: int
    findings: list[Mapping[str, Any]]

    def of(self, level: Level) -> list[str]:
        """The texts of this level."""
        return [str(one["text"]) for one in self.findings if one["level"] == level]

    def remedy(self, text: str) -> str:
        """The remedy of the finding that says this."""
        (found,) = [one for one in self.findings if text in one["text"]]
        return str(found["remedy"])


async def doctor(path: Path, capsys: pytest.CaptureFixture[str]) -> Verdict:
    """Run the command."""
    capsys.readouterr()
    status = await asyncio.to_thread(main, ["doctor", "--config", str(path), "--format", "json"])
    out, err = capsys.readouterr()
    assert err == ""
    return Verdict(status, json.loads(out)["findings"])


def changed(path: Path, *keys: str, value: Any) -> Path:
    """Set one value of the file."""
    values = yaml.safe_load(path.read_text())
    place = values
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    place[keys[-1]] = value
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
async def stripe() -> AsyncIterator[StripeDouble]:
    """A Stripe with the meter, and a restricted key that may do what is needed."""
    async with StripeDouble(KEY, permissions={KEY: READS}) as double:
        double.add_meter("api_request")
        yield double


async def test_before_the_first_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble
) -> None:
    """A right configuration that has never run has no problem: what is not there yet is said, and is no fault."""
    verdict = await doctor(config(tmp_path, stripe), capsys)
    assert (verdict.status, verdict.of(Level.PROBLEM)) == (0, [])
    assert "a restricted key for test mode" in verdict.of(Level.OK)
    assert "may read customers (customer_read)" in verdict.of(Level.OK)
    assert "this machine's clock agrees with Stripe's" in verdict.of(Level.OK)
    assert "the meter api_request fits chat" in verdict.of(Level.OK)
    assert any("is not there yet" in text for text in verdict.of(Level.NOTE))
    assert stripe.accepted == []
    assert not (tmp_path / "ledger.db").exists()


async def test_what_the_key_may_not_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each missing permission is a problem by its name; the others are still looked at."""
    async with StripeDouble(KEY, permissions={KEY: {"customer_read"}}) as stripe:
        verdict = await doctor(config(tmp_path, stripe), capsys)
    assert verdict.status == 3
    problems = verdict.of(Level.PROBLEM)
    assert len(problems) == 3
    assert "the permission billing_meter_read" in verdict.remedy("may not read meters and their summaries")
    assert "the permission event_read" in verdict.remedy("may not read changes of customers")
    assert "may read customers (customer_read)" in verdict.of(Level.OK)


async def test_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble) -> None:
    """A secret key may do too much, a wrong one nothing; it is said once, and no key is ever printed."""
    stripe.api.keys.add("sk_test_all")
    path = changed(config(tmp_path, stripe), "exporters", "stripe_meter", "api_key", value="sk_test_all")
    verdict = await doctor(path, capsys)
    assert verdict.status == 0
    assert "make a restricted key" in verdict.remedy("a secret key for test mode")
    path = changed(path, "exporters", "stripe_meter", "api_key", value="rk_test_rolled_away")
    verdict = await doctor(path, capsys)
    assert verdict.status == 3
    assert len(verdict.of(Level.PROBLEM)) == 1
    assert "wrong, rolled or revoked" in verdict.remedy("does not take the key")
    assert "rk_test_rolled_away" not in str(verdict.findings)


async def test_the_network_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble) -> None:
    """One problem for Stripe, and everything that can be known without it."""
    stripe.fault("/v", Fault.RESET_BEFORE, times=None)
    verdict = await doctor(config(tmp_path, stripe), capsys)
    assert verdict.status == 3
    (problem,) = verdict.of(Level.PROBLEM)
    assert problem.startswith("Stripe cannot be asked: ")
    assert "is valid" in verdict.of(Level.OK)


async def test_meters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing meter is a problem here as in `meters check`."""
    async with StripeDouble(KEY) as stripe:
        verdict = await doctor(config(tmp_path, stripe), capsys)
    assert verdict.status == 3
    assert "meters create" in verdict.remedy("no meter with event_name 'api_request'")


async def test_the_ledger_and_its_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble
) -> None:
    """Usage that waits, values that two customers have, quarantine with its days, and policies that bill nothing."""
    async with past(tmp_path, {"acme": "cus_1", "twin": "cus_2"}) as made:
        await made.ledger.apply_customers("", ["account_id"], [CustomerChange("cus_3", {"account_id": "twin"})], 1)
        now = time.time()
        await made.commit(batch(record("acme", at=now - 7_200)), now)
        await made.commit(batch(record(None, at=now - 60, reason=Reason.NO_USER)), now)
    verdict = await doctor(config(tmp_path, stripe), capsys)
    assert verdict.status == 3
    problems = " / ".join(verdict.of(Level.PROBLEM))
    assert "the oldest unsent usage ended 2.0 h ago" in problems
    assert "values of account_id that several customers have: 1, such as twin" in problems
    assert "3 customers have account_id" in verdict.of(Level.OK)
    assert any(text.startswith("1 request no_user; 35 days are left") for text in verdict.of(Level.WARNING))
    assert "has billed within 7 days" in verdict.of(Level.OK)
    path = changed(config(tmp_path, stripe), "processors", "usage_policy", "policies", value=[_policy("other")])
    verdict = await doctor(path, capsys)
    assert "discover" in verdict.remedy("has billed nothing within 7 days")
    assert any(
        "no customer is known that has the metadata field tenant" in text for text in verdict.of(Level.WARNING)
    )


def _policy(name: str) -> dict[str, Any]:
    user, customer = {"header": "x-tenant"}, {"metadata_field": "tenant"}
    return {
        "name": name,
        "endpoint": "GET /other",
        "user": user,
        "customer": customer,
        "event_name": "api_request",
    }


async def test_a_policy_whose_users_are_never_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble
) -> None:
    """Nothing billed and everything without a user is a wrong policy, and a problem."""
    async with past(tmp_path, {}) as made:
        now = time.time()
        await made.commit(batch(record(None, at=now - 60, reason=Reason.NO_USER)), now)
    verdict = await doctor(config(tmp_path, stripe), capsys)
    assert verdict.status == 3
    assert "quarantine list --entries" in verdict.remedy("no user was found on its requests")


async def test_a_broken_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble) -> None:
    """A file that is no ledger is a problem, not a traceback."""
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1000)
    verdict = await doctor(config(tmp_path, stripe), capsys)
    assert verdict.status == 3
    assert len(verdict.of(Level.PROBLEM)) == 1


@pytest.mark.parametrize(("ahead", "level"), [(0.0, Level.OK), (-120.0, Level.WARNING), (900.0, Level.PROBLEM)])
async def test_the_clock(ahead: float, level: Level, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Judged by Stripe's header: a minute is a warning; from five minutes on Stripe refuses usage."""
    clock = ManualClock(time.time() - ahead)
    async with StripeDouble(KEY, clock=clock) as stripe:
        stripe.add_meter("api_request")
        verdict = await doctor(config(tmp_path, stripe), capsys)
    assert any("clock" in text for text in verdict.of(level))
    assert verdict.status == (3 if level is Level.PROBLEM else 0)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


async def test_beside_the_running_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stripe: StripeDouble
) -> None:
    """Listeners, readiness, and what the service's own metrics tell of the spans; unmatched requests are noted."""
    http, health, metrics = _free_port(), _free_port(), _free_port()
    path = config(tmp_path, stripe)
    changed(path, "receivers", "otlp", "protocols", "http", "endpoint", value=f"127.0.0.1:{http}")
    changed(path, "extensions", "health_check", value={"endpoint": f"127.0.0.1:{health}"})
    changed(path, "service", "extensions", value=["sqlite_storage", "health_check"])
    reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": metrics}}}}
    changed(path, "service", "telemetry", value={"metrics": {"readers": [reader]}})
    stopped = await doctor(path, capsys)
    assert "start the service" in stopped.remedy(f"nothing can be reached at 127.0.0.1:{http}")
    async with running_service(path):
        idle = await doctor(path, capsys)
        assert "the service takes spans" in idle.of(Level.OK)
        assert f"127.0.0.1:{http} takes connections, from this machine only" in idle.of(Level.OK)
        assert "no request has come in since the service started" in idle.of(Level.WARNING)
        made = [span({"http.request.method": "GET", "url.path": f"/{n}"}) for n in range(3)]
        async with aiohttp.ClientSession() as session:
            headers = {"Content-Type": "application/x-protobuf"}
            url = f"http://127.0.0.1:{http}/v1/traces"
            async with session.post(url, data=payload(*made), headers=headers) as answer:
                assert answer.status == 200
        busy = await doctor(path, capsys)
    assert "3 of 3 requests since the service started matched no policy" in busy.of(Level.NOTE)


async def test_the_lines_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain lines, the worst last, each with its remedy, and a count in the end."""
    async with StripeDouble(KEY) as stripe:
        path = config(tmp_path, stripe)
        status = await asyncio.to_thread(main, ["doctor", "--config", str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert status == 3
    assert lines[-4].startswith("problem  exporters::stripe_meter: Stripe has no meter")
    assert lines[-3].startswith("         -> make it with `otel-usageflow meters create`")
    assert lines[-1].startswith("1 problem, ")


def test_what_metrics_tell() -> None:
    """Sampled, lost, redacted and doubled input, failing conditions: each from its metric, zeros are silent."""
    page = """\
# TYPE otel_usageflow_sampled_share gauge
otel_usageflow_sampled_share{processor="usage_policy",service="shop"} 0.1
# TYPE otel_usageflow_sdk_lost_requests counter
otel_usageflow_sdk_lost_requests_total{processor="usage_policy"} 12
# TYPE otel_usageflow_redacted_records counter
otel_usageflow_redacted_records_total{pipeline="traces",policy="chat"} 7
# TYPE otel_usageflow_perhaps_doubled_requests gauge
otel_usageflow_perhaps_doubled_requests{processor="usage_policy",service="shop",scopes="a and b"} 60
# TYPE otel_usageflow_failed_conditions counter
otel_usageflow_failed_conditions_total{pipeline="traces",policy="chat"} 3
# TYPE otel_usageflow_malformed_spans counter
otel_usageflow_malformed_spans_total{pipeline="traces"} 0
"""
    found = list(of_metrics(page))
    assert [(one.level, one.subject) for one in found] == [
        (Level.PROBLEM, "service shop"),
        (Level.PROBLEM, "processor usage_policy"),
        (Level.WARNING, "policy chat"),
        (Level.WARNING, "service shop"),
        (Level.WARNING, "policy chat"),
        (Level.WARNING, "traffic"),
    ]
    assert "about 10% of them arrive" in found[0].text
    assert found[1].text.startswith("12 requests were given up")
    assert found[2].text.startswith("7 requests without a user have a placeholder")
    assert found[3].text.startswith("a and b report equally many requests, 60 each")
