"""`meters list|check|create`: the policies held against the meters of a real (double of) Stripe."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from compared import config

from otel_usageflow.cli import main
from otel_usageflow.testing.stripe import Fault, StripeDouble

METERS = "/v1/billing/meters"


def written(directory: Path, stripe: StripeDouble, *policies: Mapping[str, Any], account: str | None = None) -> Path:
    """A configuration with these policies; what they leave out is filled in."""
    path = config(directory, stripe)
    values = yaml.safe_load(path.read_text())
    plain = values["processors"]["usage_policy"]["policies"][0]
    values["processors"]["usage_policy"]["policies"] = [
        plain | {"name": f"policy-{number}"} | dict(policy) for number, policy in enumerate(policies)
    ]
    if account is not None:
        values["exporters"]["stripe_meter"]["account"] = account
    path.write_text(yaml.safe_dump(values))
    return path


async def run(capsys: pytest.CaptureFixture[str], path: Path, *words: str) -> tuple[int, str, str]:
    """Run the command beside the double."""
    capsys.readouterr()
    status = await asyncio.to_thread(main, ["meters", words[0], "--config", str(path), *words[1:]])
    out, err = capsys.readouterr()
    return status, out, err


async def verdicts(capsys: pytest.CaptureFixture[str], path: Path) -> tuple[int, dict[str, str]]:
    """Exit status, and event name -> verdict."""
    status, out, _ = await run(capsys, path, "check", "--format", "json")
    (exporter,) = json.loads(out)["exporters"]
    return status, {one["event_name"]: one["verdict"] for one in exporter["meters"]}


async def test_a_good_set_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Meters that sum and are active are `ok`: exit 0, with the policies that feed each."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        path = written(tmp_path, stripe, {}, {"endpoint": "GET /v1/other"})
        assert await verdicts(capsys, path) == (0, {"api_request": "ok"})
        _, out, _ = await run(capsys, path, "check")
        assert "policy-0, policy-1" in out
        assert "remedy" not in out


async def test_every_mistake_has_its_verdict_and_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, inactive, replacing, counting and colliding meters are told in one run, with remedies: exit 3."""
    async with StripeDouble() as stripe:
        stripe.add_meter("inactive")
        stripe.deactivate_meter("inactive")
        stripe.add_meter("hourly", event_time_window="hour")
        stripe.add_meter("counted", "count")
        stripe.add_meter("keyed", customer_key="tenant")
        stripe.add_meter("valued", value_key="tokens")
        stripe.add_meter("level", "last")
        path = written(
            tmp_path,
            stripe,
            {"event_name": "missing"},
            {"event_name": "inactive"},
            {"event_name": "hourly"},
            {"event_name": "counted", "quantity": 2},
            {"event_name": "keyed", "payload": {"tenant": {"attribute": "my.tenant"}}},
            {"event_name": "valued", "payload": {"tokens": {"attribute": "my.tokens"}}},
            {"event_name": "level"},
        )
        assert await verdicts(capsys, path) == (
            3,
            {
                "missing": "missing",
                "inactive": "inactive",
                "hourly": "unfit",
                "counted": "unfit",
                "keyed": "unfit",
                "valued": "unfit",
                "level": "ok",
            },
        )
        _, out, _ = await run(capsys, path, "check")
        assert out.count("  remedy: ") == 6
        assert "wrong for requests" in out


async def test_a_count_meter_fits_requests_that_count_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What counts events is right where every request is 1, and wrong once one policy bills another quantity."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", "count")
        assert await verdicts(capsys, written(tmp_path, stripe, {})) == (0, {"api_request": "ok"})
        several = written(tmp_path, stripe, {}, {"quantity": {"attribute": "my.tokens"}})
        assert await verdicts(capsys, several) == (3, {"api_request": "unfit"})


async def test_a_count_meter_does_not_fit_requests_that_are_weighed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under `sampling: adjust` it says what a start would say: a meter that counts events ignores the weight."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", "count")
        path = written(tmp_path, stripe, {})
        values = yaml.safe_load(path.read_text())
        values["processors"]["usage_policy"]["sampling"] = "adjust"
        path.write_text(yaml.safe_dump(values))
        assert await verdicts(capsys, path) == (3, {"api_request": "unfit"})
        assert "sampling: adjust" in (await run(capsys, path, "check"))[1]


async def test_create_shows_asks_and_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what is missing is made, only after it was shown and confirmed; a second run makes nothing."""
    async with StripeDouble() as stripe:
        stripe.add_meter("there")
        path = written(tmp_path, stripe, {"event_name": "there"}, {"event_name": "new"}, {"event_name": "newer"})
        status, out, err = await run(capsys, path, "create")
        assert (status, out) == (1, "")
        assert "new  in the key's own account, test mode; for policy-1" in err
        assert "add --yes" in err
        assert [meter.event_name for meter in stripe.account().meters.all] == ["there"]
        status, out, err = await run(capsys, path, "create", "--yes")
        assert (status, err.count(": made\n")) == (0, 2)
        assert [meter.event_name for meter in stripe.account().meters.all] == ["there", "new", "newer"]
        assert {meter.formula for meter in stripe.account().meters.all} == {"sum"}
        assert await verdicts(capsys, path) == (0, {"there": "ok", "new": "ok", "newer": "ok"})
        status, out, err = await run(capsys, path, "create")
        assert (status, err) == (0, "")


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.ERROR_AFTER, Fault.MALFORMED])
async def test_an_answer_that_is_lost_makes_no_second_meter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    """What counts is whether the meter is there; it is neither made twice nor reported as failed."""
    async with StripeDouble() as stripe:
        path = written(tmp_path, stripe, {"event_name": "new"})
        stripe.fault(METERS, fault, times=1, method="POST")
        status, _, err = await run(capsys, path, "create", "--yes")
        assert (status, "new: made\n" in err) == (0, True)
        assert [meter.event_name for meter in stripe.account().meters.all] == ["new"]


async def test_create_does_not_mend_what_only_people_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An inactive meter keeps its event name: nothing is made, the remedy is told, exit 3."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        stripe.deactivate_meter("api_request")
        status, out, err = await run(capsys, written(tmp_path, stripe, {}), "create", "--yes")
        assert (status, err) == (3, "")
        assert "reactivate it in Stripe" in out


async def test_connected_accounts_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A meter of one account does not serve the policies of another; both are named."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", account="acct_2")
        path = written(tmp_path, stripe, {}, {"account": "acct_2", "endpoint": "GET /v1/other"}, account="acct_1")
        status, out, _ = await run(capsys, path, "check", "--format", "json")
        (exporter,) = json.loads(out)["exporters"]
        assert [(one["account"], one["verdict"]) for one in exporter["meters"]] == [
            ("acct_1", "missing"),
            ("acct_2", "ok"),
        ]
        status, _, err = await run(capsys, path, "create", "--yes")
        assert (status, "api_request  in account acct_1, test mode" in err) == (0, True)
        assert [meter.event_name for meter in stripe.account("acct_1").meters.all] == ["api_request"]


async def test_list_shows_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every meter, active or not, over all pages, with its policies; an empty account says what to do."""
    async with StripeDouble() as stripe:
        path = written(tmp_path, stripe, {})
        _, out, _ = await run(capsys, path, "list")
        assert "no meters; make those that the policies need" in out
        for number in range(120):
            stripe.add_meter(f"other-{number:03}")
        stripe.add_meter("api_request")
        stripe.deactivate_meter("other-007")
        status, out, _ = await run(capsys, path, "list", "--format", "json")
        (exporter,) = json.loads(out)["exporters"]
        assert (status, len(exporter["meters"])) == (0, 121)
        assert exporter["meters"][0]["policies"] == ["policy-0"]
        assert [one["event_name"] for one in exporter["meters"] if one["status"] == "inactive"] == ["other-007"]
        status, out, _ = await run(capsys, path, "list")
        assert (status, out.count("other-")) == (0, 120)


async def test_stripe_that_cannot_be_read_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong key and a dead network: exit 2, one line with the exporter, the cause and the remedy."""
    async with StripeDouble() as stripe:
        path = written(tmp_path, stripe, {}, account="acct_1")
        stripe.fault(METERS, Fault.RESET_BEFORE, times=None)
        for words in (("check",), ("list",), ("create", "--yes")):
            status, out, err = await run(capsys, path, *words)
            assert (status, out, err.count("\n")) == (2, "", 1)
            assert "exporters::stripe_meter, account acct_1: its meters cannot be read: " in err
        stripe.clear_faults()
        values = yaml.safe_load(path.read_text())
        values["exporters"]["stripe_meter"]["api_key"] = "sk_test_rolled"
        path.write_text(yaml.safe_dump(values))
        status, _, err = await run(capsys, path, "check")
        assert (status, "api_key is wrong, rolled or revoked" in err) == (2, True)
        assert "sk_test_rolled" not in err
