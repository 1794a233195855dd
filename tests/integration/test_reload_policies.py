"""Policies that change while the service runs: what is billed, what is refused as a whole, what is written down."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from recording_components import until
from reloading import policy, reloading, request
from structlog.testing import capture_logs

from otel_usageflow.component import Kind
from otel_usageflow.errors import ConfigErrors, StartError, Unavailable
from otel_usageflow.exporters.stripe_meter import rhythm
from otel_usageflow.testing.stripe import Fault, StripeDouble

EMBED = policy(name="embed", endpoint="POST /embed", event_name="embeddings")


async def test_a_new_policy_bills_from_now_on(tmp_path: Path) -> None:
    """With an event name, a metadata field and a connected account that nobody knew before; the old ones go on."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        stripe.add_meter("embeddings", account="acct_1")
        old = stripe.add_customer({"account_id": "acme"})
        new = stripe.add_customer({"team": "blue"}, account="acct_1")
        embed = EMBED | {"customer": {"metadata_field": "team"}, "account": "acct_1"}
        async with reloading(tmp_path, stripe) as running:
            assert await running.send(request("blue", "/embed")) == 200
            found = await running.reload(policy(), embed)
            assert (found.added, found.removed, found.changed) == (("embed",), (), ())
            assert await running.send(request("blue", "/embed")) == 200
            assert await running.send(request()) == 200
            await stripe.wait_until(lambda: stripe.total("embeddings", new, account="acct_1") == 1)
            await stripe.wait_until(lambda: stripe.total("api_request", old) == 1)
            page = await running.metrics()
        assert 'otel_usageflow_billable_records_total{pipeline="traces",policy="embed"} 1.0' in page
        assert stripe.violations == []


async def test_a_metadata_field_is_looked_up_anew(tmp_path: Path) -> None:
    """An account that is followed already learns a further field; nobody is missing before all were listed."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        stripe.add_customer({"account_id": "acme"})
        blue = stripe.add_customer({"team": "blue"})
        async with reloading(tmp_path, stripe) as running:
            assert await running.send(request()) == 200
            await running.reload(policy(customer={"metadata_field": "team"}))
            assert await running.send(request("blue")) == 200
            await stripe.wait_until(lambda: stripe.total("api_request", blue) == 1)


async def test_usage_of_a_policy_that_is_gone_is_billed(tmp_path: Path) -> None:
    """What came under its terms goes to its meter, also if the windows end after the reload."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        stripe.add_meter("embeddings")
        acme = stripe.add_customer({"account_id": "acme"})
        async with reloading(tmp_path, stripe, policy(), EMBED) as running:
            assert await running.send(request(path="/embed")) == 200
            assert (await running.reload(policy())).removed == ("embed",)
            assert await running.send(request(path="/embed")) == 200
            await stripe.wait_until(lambda: stripe.total("embeddings", acme) == 1)
            before = await running.metrics()
        assert 'otel_usageflow_billable_records_total{pipeline="traces",policy="embed"} 1.0' in before
        assert 'otel_usageflow_unmatched_requests_total{pipeline="traces"} 1.0' in before


async def test_usage_under_mended_terms_is_released(tmp_path: Path) -> None:
    """A wrong field in a policy: its usage waits, and is billed by itself once the policy is mended and reloaded."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        acme = stripe.add_customer({"account_id": "acme"})
        async with reloading(tmp_path, stripe, policy(customer={"metadata_field": "acount_id"})) as running:
            assert await running.send(request()) == 200
            await held(tmp_path)
            with capture_logs() as logs:
                await running.reload(policy())
                await until(lambda: any(line["event"] == "usage_refiled" for line in logs), 10)
            await stripe.wait_until(lambda: stripe.total("api_request", acme) == 1)
    assert rhythm.RHYTHM.release > 10  # it did not wait for the next regular look


async def held(directory: Path) -> None:
    """Wait until something waits for its customer."""
    async with asyncio.timeout(15):
        connection = sqlite3.connect(directory / "ledger.db")
        while not connection.execute("SELECT count(*) FROM held_windows").fetchone()[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        connection.close()


async def test_a_meter_that_can_never_be_fed_keeps_everything_as_it_was(tmp_path: Path) -> None:
    """The message is that of a start; the policies of before bill on, the good half of the new does not begin."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        stripe.add_meter("embeddings")
        stripe.add_meter("hourly", event_time_window="hour")
        acme = stripe.add_customer({"account_id": "acme"})
        unfit = policy(name="unfit", endpoint="GET /unfit", event_name="hourly")
        async with reloading(tmp_path, stripe) as running:
            with pytest.raises(StartError) as refused:
                await running.reload(policy(), EMBED, unfit)
            assert await running.send(request(path="/embed")) == 200
            assert await running.send(request()) == 200
            await stripe.wait_until(lambda: stripe.total("api_request", acme) == 1)
            assert stripe.total("embeddings", acme) == 0
            assert len(running.audit()) == 1
        with pytest.raises(StartError) as at_start:
            async with reloading(tmp_path / "other", stripe, unfit):
                pass
    assert str(refused.value) == str(at_start.value)
    assert "event_time_window" in str(refused.value)


async def test_a_quantity_that_a_meter_ignores(tmp_path: Path) -> None:
    """A meter that counts events is fit for ones; a policy that would bill another quantity under it is refused."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", "count")
        async with reloading(tmp_path, stripe) as running:
            with pytest.raises(StartError, match="counts events and ignores their value"):
                await running.reload(policy(), policy(name="more", endpoint="GET /more", quantity=5))
            assert (await running.reload(policy(), policy(name="more", endpoint="GET /more"))).added == ("more",)


async def test_stripe_need_not_answer(tmp_path: Path) -> None:
    """As at a start: policies are taken up after a few seconds at most, and what they bill is kept."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        stripe.add_meter("embeddings")
        acme = stripe.add_customer({"account_id": "acme"})
        async with reloading(tmp_path, stripe) as running:
            stripe.fault("/v1/billing/meters", Fault.HANG_AFTER, times=None)
            async with asyncio.timeout(8):
                with capture_logs() as logs:
                    await running.reload(policy(), EMBED)
            assert "stripe_not_readable_at_reload" in [line["event"] for line in logs]
            assert await running.send(request(path="/embed")) == 200
            stripe.api.faults.clear()
            await stripe.wait_until(lambda: stripe.total("embeddings", acme) == 1, 30)


async def test_the_audit_log_has_it_before_the_first_usage(tmp_path: Path) -> None:
    """Old and new, by the service, and what led to it; nothing for a reload that changes no policy."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        async with reloading(tmp_path, stripe) as running:
            await running.reload(policy(status="any"), why="reload: SIGHUP")
            await running.reload(policy(status="any"), why="reload: SIGHUP")
            await running.reload(policy(status="any"), exporters__stripe_meter__calls_per_second="10")
            first, second = running.audit()
            assert (second["actor"], second["why"]) == ("service", "reload: SIGHUP")
            assert second["before"] == first["after"]
            (now,) = second["after"]["processors"]["usage_policy"]["policies"]
            assert now["status"] == "any"
            assert "calls_per_second" not in str(second)


async def test_without_an_audit_entry_nothing_changes(tmp_path: Path) -> None:
    """A disk that refuses is a reason to try again later; the policies of before stay in force."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        acme = stripe.add_customer({"account_id": "acme"})
        async with reloading(tmp_path, stripe) as running:
            storage = running.service.components[Kind.EXTENSION, "sqlite_storage"]
            run = storage._writer.run
            large = [policy(), *(EMBED | {"name": f"embed-{n}", "endpoint": f"POST /{n}"} for n in range(2_000))]
            await run(lambda c: c.execute("PRAGMA max_page_count = 1").fetchall(), weight=0)
            with pytest.raises(Unavailable, match="cannot be written"):
                await running.reload(*large)
            assert len(running.audit()) == 1
            await run(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchall(), weight=0)
            assert await running.send(request(path="/7")) == 200
            assert await running.send(request()) == 200
            await running.reload(*large)
            assert len(running.audit()) == 2
            await stripe.wait_until(lambda: stripe.total("api_request", acme) == 1)
            page = await running.metrics()
        assert 'otel_usageflow_unmatched_requests_total{pipeline="traces"} 1.0' in page


async def test_of_two_ledgers_none_tells_of_what_is_not_in_force(tmp_path: Path) -> None:
    """When the second cannot write, the entry in the first is taken back."""
    second = f"{{sqlite_storage/b: {{directory: '{tmp_path / 'b'}'}}}}"
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        sets = {
            "extensions": second,
            "service__extensions": "[sqlite_storage, sqlite_storage/b, health_check]",
        }
        async with reloading(tmp_path / "a", stripe, **sets) as running:
            storage = running.service.components[Kind.EXTENSION, "sqlite_storage/b"]
            await storage._writer.run(lambda c: c.execute("PRAGMA max_page_count = 1").fetchall(), weight=0)
            large = [EMBED | {"name": f"embed-{n}", "endpoint": f"POST /{n}"} for n in range(2_000)]
            with pytest.raises(Unavailable):
                await running.reload(*large, **sets)
            first, taken, back = running.audit()
    assert len(taken["after"]["processors"]["usage_policy"]["policies"]) == 2_000
    assert back["after"] == first["after"]
    assert back["why"] == "taken back: another ledger could not be written"


async def test_a_processor_that_does_not_run_stands_in_the_way(tmp_path: Path) -> None:
    """Nothing is taken up, and the message says why."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        async with reloading(tmp_path, stripe) as running:
            with pytest.raises(ConfigErrors, match="usage_policy/v2 does not run; a restart takes up"):
                await running.reload(
                    policy(status="any"),
                    **{
                        "processors__usage_policy/v2__policies": "[" + str(EMBED) + "]",
                        "service__pipelines__traces__processors": "[usage_policy/v2]",
                    },
                )
            assert len(running.audit()) == 1


async def test_readiness_is_not_affected(tmp_path: Path) -> None:
    """Neither by a reload nor by one that fails."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        stripe.add_meter("hourly", event_time_window="hour")
        async with reloading(tmp_path, stripe) as running:
            with pytest.raises(StartError):
                await running.reload(policy(event_name="hourly"))
            assert running.service.health.problems() == {}
            await running.reload(policy(status="any"))
            assert running.service.health.problems() == {}
