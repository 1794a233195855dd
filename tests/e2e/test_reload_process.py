"""Reloads of the service as a process: signals, files, loads of spans, and deaths at the worst moment.

The oracle is the clients' own memory of what was acknowledged, and the double's totals; neither knows the ledger.
"""

import asyncio
import json
import random
import signal
from collections import Counter
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
from load import Load, request, until_billed
from processes import Double, Running, double, service
from service_process import COMMAND, CONFIG, environment, running

from otel_usageflow.model.crash_point import RELOAD_POINTS

USERS = [f"user-{number}" for number in range(10)]
CUSTOMERS = [argument for user in USERS for argument in ("--customer", f"account_id={user}")]
OTHER = CONFIG.replace("name: chat", "name: talk")
BROKEN = CONFIG.replace("policies:\n      - name", "policies:\n      - name: [")


def replace(file: Path, text: str) -> None:
    """Replace a file as editors do."""
    other = file.with_suffix(".new")
    other.write_text(text)
    other.rename(file)


def write(file: Path, text: str) -> None:
    """Write into the file that is there."""
    file.write_text(text)


async def billed_by_user(stripe: Double) -> Counter[str]:
    """User -> what the double has counted under all meters."""
    found: Counter[str] = Counter()
    for row in (await stripe.ask("totals"))["data"]:
        found[row["metadata"]["account_id"]] += int(Decimal(row["total"]))
    return found


async def reloads(of: Running, number: int) -> None:
    """Wait for so many reloads that succeeded."""
    async with asyncio.timeout(30):
        while len(of.lines("reloaded")) < number:  # noqa: ASYNC110  (a file of another process)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("deaths", [False, True], ids=["no deaths", "kill -9 after each"])
async def test_every_request_is_billed_under_one_set_of_policies(tmp_path: Path, *, deaths: bool) -> None:
    """Under load, while a policy changes its event name again and again: each request is billed once."""
    async with (
        double("--meter", "api_request", "--meter", "other_request", "--no-rate-limits", *CUSTOMERS) as stripe,
        service(tmp_path, stripe) as it,
    ):
        one = it.config.read_text()
        other = one.replace("event_name: api_request", "event_name: other_request")
        load = Load(it.grpc, it.http, USERS)
        sending = asyncio.create_task(load.run())
        for turn in range(12):
            await load.more(200)
            replace(it.config, (other, one)[turn % 2])
            assert it.process is not None
            it.process.send_signal(signal.SIGHUP)
            await reloads(it, turn + 1)
            if deaths:
                await it.kill()
                await it.start()
        load.stopping.set()
        await sending
        expected = Counter({user: tokens for user, tokens in load.acknowledged.items() if tokens})
        billed: Counter[str] = Counter()
        async with asyncio.timeout(60):
            while billed != expected:
                billed = await billed_by_user(stripe)
                if any(billed[user] > tokens for user, tokens in expected.items()):
                    break  # billed twice: waiting does not help
                await asyncio.sleep(0.2)
        assert billed == expected
        meters = {row["event_name"] for row in (await stripe.ask("totals"))["data"] if Decimal(row["total"])}
        assert meters == {"api_request", "other_request"}
        assert deaths or load.retries == 0
        print(f"12 reloads, {load.requests} requests acknowledged, {load.retries} sent again; lost 0, doubled 0")


async def test_a_storm_of_signals_and_kills(tmp_path: Path) -> None:
    """SIGHUP by the hundred, files that change, kill -9 right after: what was acknowledged is billed once."""
    dice = random.Random(4)
    async with (
        double("--meter", "api_request", "--no-rate-limits", *CUSTOMERS) as stripe,
        service(tmp_path, stripe) as it,
    ):
        one = it.config.read_text()
        texts = [one, one.replace("name: chat", "name: talk"), one.replace("policies:", "policies: ["), one[:-40]]
        load = Load(it.grpc, it.http, USERS, clients=4)
        sending = asyncio.create_task(load.run())
        for _ in range(5):
            assert it.process is not None
            for _ in range(100):
                (replace, write)[dice.randrange(2)](it.config, dice.choice(texts))
                it.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(dice.choice((0, 0, 0.02)))
            await load.more(50)
            await it.kill()
            replace(it.config, dice.choice(texts[:2]))
            await it.start()
        load.stopping.set()
        await sending
        await until_billed(stripe, load, within=60)
        assert it.lines("reloaded")
        assert it.lines("reload_failed")
        assert not it.lines("crashed")


@pytest.mark.parametrize("point", RELOAD_POINTS)
async def test_death_in_a_reload(tmp_path: Path, point: str) -> None:
    """Whenever it dies: the next start has the policies of the file, and the audit log tells of the change once."""
    async with (
        double("--meter", "api_request", "--meter", "other_request", "--customer", "account_id=user-1") as stripe,
        service(tmp_path, stripe) as it,
    ):
        await it.kill()
        await it.start(die_at=point)
        assert it.process is not None
        replace(it.config, it.config.read_text().replace("event_name: api_request", "event_name: other_request"))
        it.process.send_signal(signal.SIGHUP)
        assert await it.process.wait() == -signal.SIGKILL
        await it.start()
        async with aiohttp.ClientSession() as session:
            data = request([(b"t" * 16, "user-1", 7)])
            headers = {"content-type": "application/x-protobuf"}
            url = f"http://127.0.0.1:{it.http}/v1/traces"
            async with session.post(url, data=data, headers=headers) as answer:
                assert answer.status == 200
        async with asyncio.timeout(20):
            while (await stripe.ask("totals"))["data"] == []:  # noqa: ASYNC110  (another process)
                await asyncio.sleep(0.1)
        (row,) = (await stripe.ask("totals"))["data"]
        assert (row["event_name"], Decimal(row["total"])) == ("other_request", 7)
        audit = await command("ledger", "audit", "--config", str(it.config), "--format", "json")
        told = [one for one in json.loads(audit)["audit"] if one["action"] == "configured"]
        assert [one["why"] for one in told] == ["", "reload: SIGHUP"]


async def command(*arguments: str) -> str:
    """What a command prints."""
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_signals_at_any_time(tmp_path: Path) -> None:
    """SIGHUP while it starts is kept for later, and while it stops it changes nothing: the exit status is 0."""
    config = tmp_path / "usageflow.yaml"
    write(config, CONFIG)
    async with running(["--config", str(config)], environment(tmp_path)) as it:
        await it.line("starting")
        for _ in range(20):
            it.process.send_signal(signal.SIGHUP)
        await it.line("reloaded", because="SIGHUP", policies="as before")
        it.process.send_signal(signal.SIGTERM)
        for _ in range(50):
            it.process.send_signal(signal.SIGHUP)
        assert await it.end() == 0


async def test_the_story_of_a_bad_file(tmp_path: Path) -> None:
    """A mistake is told with its path, once, and nothing changes; mended, the file is taken up by itself."""
    config = tmp_path / "usageflow.yaml"
    write(config, CONFIG)
    async with running(["--config", str(config)], environment(tmp_path)) as it:
        await it.ports()
        replace(config, BROKEN)
        failed = await it.line("reload_failed", because=f"{config} changed")
        assert failed["level"] == "error"
        assert failed["errors"][0].startswith(f"{config}:")
        write(config, CONFIG.replace("event_name:", "event_nam:"))
        failed = await it.line("reload_failed")
        (error,) = failed["errors"]
        assert error.startswith(
            "processors::usage_policy::policies::0::event_nam: unknown key; did you mean event_name?"
        )
        write(config, OTHER.replace("{encoding: json}", "{encoding: json, level: debug}"))
        assert (await it.line("reloaded"))["added"] == ["talk"]
        needs = await it.line("needs_restart")
        assert needs["paths"] == ["service::telemetry::logs::level"]
        config.unlink()
        assert (await it.line("reload_failed"))["errors"] == [f"{config}: there is no such file"]
        it.process.send_signal(signal.SIGTERM)
        assert await it.end() == 0


async def test_everything_is_read_as_at_the_start(tmp_path: Path) -> None:
    """Both files, the environment, and `--set` over all of them."""
    config, more = tmp_path / "usageflow.yaml", tmp_path / "more.yaml"
    write(config, CONFIG)
    write(more, "processors: {usage_policy: {placeholders: [one]}}")
    arguments = ["--config", str(config), "--config", str(more), "--set", "service::reload::watch=false"]
    async with running(arguments, environment(tmp_path)) as it:
        await it.ports()
        replace(more, "processors: {usage_policy: {placeholders: [one, '${env:TEST_STRIPE_KEY}']}}")
        replace(config, OTHER.replace("service:\n", "service:\n  reload: {watch: true}\n"))
        it.process.send_signal(signal.SIGHUP)
        line = await it.line("reloaded")
        assert (line["added"], line["removed"]) == (["talk"], ["chat"])
        assert line["settings"] == ["processors::usage_policy::placeholders"]
        it.process.send_signal(signal.SIGTERM)
        assert await it.end() == 0
        assert not [one for one in it.lines if one["event"] == "needs_restart"]
