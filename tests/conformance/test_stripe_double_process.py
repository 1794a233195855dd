"""The double as a process of its own: what it prints, how it is steered, what it keeps."""

import asyncio
import time
from pathlib import Path

import stripe
from stripe_process import COMMAND, running

PREPARED = ("--meter", "api_request", "--customer", "account_id=acme")


async def test_it_prints_where_it_is_and_how_to_use_it() -> None:
    """The first line is the URL; then comes the exporter's configuration, ready to paste; the end is clean."""
    async with running(*PREPARED) as double:
        assert double.config == {
            "exporters": {
                "stripe_meter": {
                    "api_key": "sk_test_own",
                    "endpoints": {"api": double.url, "meter_events": double.url, "connect": double.url},
                }
            }
        }
        (customer,) = double.customers
        http = stripe.AIOHTTPClient()
        client = stripe.StripeClient("sk_test_own", base_addresses={"api": double.url}, http_client=http)
        found = await client.v1.customers.retrieve_async(customer)
        await http.close_async()
        assert found.metadata is not None
        assert found.metadata.to_dict() == {"account_id": "acme"}


async def test_it_is_read_through_the_control_calls() -> None:
    """Accepted events, totals, violations and calls are read as JSON; no key is ever shown."""
    async with running(*PREPARED, "--latency", "0.2") as double:
        (customer,) = double.customers
        assert await double.send("a", customer, "2.50") == 200
        assert sorted(await asyncio.gather(double.send("b", customer), double.send("c", customer))) == [200, 429]
        accepted = await double.control("GET", "accepted")
        assert accepted["count"] == 2
        assert (accepted["data"][0]["identifier"], accepted["data"][0]["value"]) == ("a", "2.50")
        assert len((await double.control("GET", "accepted?from=1"))["data"]) == 1
        (row,) = (await double.control("GET", "totals"))["data"]
        assert (row["event_name"], row["customer"], row["total"]) == ("api_request", customer, "3.50")
        assert (row["metadata"], row["events"]) == ({"account_id": "acme"}, 2)
        assert (await double.control("GET", "violations"))["count"] == 1
        calls = (await double.control("GET", "calls"))["data"]
        assert sorted(call["status"] for call in calls) == [200, 200, 429]
        assert "sk_test_own" not in str(calls)


async def test_it_is_steered_through_the_control_calls() -> None:
    """Faults, outages and time are set from outside; what makes no sense is a 400 or 404."""
    async with running(*PREPARED) as double:
        (customer,) = double.customers
        rule = await double.control("POST", "faults", path="/v1/billing", fault="reset_after", times=1)
        assert rule["fired"] == 0
        assert [await double.send("a", customer) for _ in range(2)] == [0, 400]
        assert (await double.control("GET", "faults"))["data"][0]["fired"] == 1
        await double.control("POST", "outage", on=True)
        assert await double.send("b", customer) == 0
        await double.control("POST", "outage", on=False)
        assert await double.send("b", customer) == 200
        before = (await double.control("GET", "clock"))["now"]
        after = (await double.control("POST", "clock/advance", seconds=86_400))["now"]
        assert 86_400 <= after - before < 86_460
        assert await double.send("a", customer) == 200  # forgotten by now
        for method, path, body, status in (
            ("POST", "faults", {"path": "/", "fault": "no_such"}, 400),
            ("POST", "faults", {"fault": "hang"}, 400),
            ("POST", "clock/advance", {"seconds": -1}, 400),
            ("POST", "outage", {"on": "yes"}, 400),
            ("GET", "nothing", None, 404),
        ):
            async with double.session.request(method, f"{double.url}/_double/{path}", json=body) as answer:
                assert answer.status == status


async def test_rejections_and_settings_are_steered_from_outside() -> None:
    """Rejections after a 200 are asked for, read and ended by control calls and by arguments, settings likewise."""
    args = ("--validation", "asynchronous", "--reject", "api_request:archived_meter:2", "--set", "report_samples=1")
    async with running(*PREPARED, *args, "--set", "report_request=id_and_key") as double:
        (customer,) = double.customers
        assert [await double.send(name, customer) for name in "ab"] == [200, 200]
        assert await double.send("c", "cus_x") == 200
        await double.control(
            "POST", "rejections", event_name="api_request", code="meter_event_invalid_value", times=None
        )
        assert await double.send("d", customer) == 200
        rules = (await double.control("GET", "rejections"))["data"]
        assert [(rule["code"], rule["fired"]) for rule in rules] == [
            ("archived_meter", 2),
            ("meter_event_invalid_value", 1),
        ]
        await double.control("DELETE", "rejections")
        assert await double.send("e", customer) == 200
        rejected = await double.control("GET", "rejected?from=1")
        assert rejected["count"] == 4
        assert [(event["identifier"], event["code"]) for event in rejected["data"]] == [
            ("b", "archived_meter"),
            ("c", "meter_event_customer_not_found"),
            ("d", "meter_event_invalid_value"),
        ]
        assert (await double.control("GET", "accepted"))["count"] == 1
        assert (await double.control("GET", "totals"))["data"][0]["total"] == "1"
        settings = await double.control("POST", "settings", validation="synchronous", report_delay=2)
        assert (settings["validation"], settings["report_delay"], settings["report_samples"]) == ("synchronous", 2, 1)
        assert await double.send("f", "cus_x") == 400
        await double.control("POST", "clock/advance", seconds=20)
        reports = (await double.control("GET", "reports"))["data"]
        kinds = [kind for report in reports for kind in report["data"]["reason"]["error_types"]]
        assert sum(kind["error_count"] for kind in kinds) == 4
        assert kinds[0]["sample_errors"][0]["request"].keys() == {"id", "idempotency_key"}
        for path, body in (
            ("settings", {"validation": "sometimes"}),
            ("settings", {"report_delay": "long"}),
            ("settings", {"limits": 0}),
            ("rejections", {"event_name": "api_request"}),
            ("rejections", {"event_name": "api_request", "code": "no_meter", "real": True}),
        ):
            async with double.session.post(f"{double.url}/_double/{path}", json=body) as answer:
                assert answer.status == 400


async def test_losses_foreign_events_and_reads_are_steered_from_outside(tmp_path: Path) -> None:
    """Events are lost, added, taken back and read back by control calls, and are the same after a restart."""
    prepared = (*PREPARED, "--state", str(tmp_path / "stripe.json"))
    async with running(*prepared) as double:
        (customer,) = double.customers
        for identifier, value in (("a", "1"), ("b", "10"), ("c", "100")):
            assert await double.send(identifier, customer, value) == 200
        lost = await double.control("POST", "lost", event_name="api_request", n=1)
        assert [event["identifier"] for event in lost["data"]] == ["a"]
        foreign = await double.control(
            "POST", "foreign", event_name="api_request", customer=customer, value="0.5", timestamp=int(time.time())
        )
        assert foreign["value"] == "0.5"
        body = {"event_name": "api_request", "type": "cancel", "cancel[identifier]": "b"}
        headers = {"Authorization": "Bearer sk_test_own"}
        path = f"{double.url}/v1/billing/meter_event_adjustments"
        async with double.session.post(path, data=body, headers=headers) as answer:
            assert answer.status == 200
        async with double.session.get(f"{double.url}/v1/customers/{customer}", headers=headers) as answer:
            assert answer.status == 200
        reads = await double.control("GET", "reads")
        assert reads["count"] == 1
        assert (reads["data"][0]["path"], reads["data"][0]["reads"]) == ("/v1/customers/*", 1)
        for path, wrong in (("lost", {"n": 9}), ("foreign", {"event_name": "api_request", "customer": "cus_x"})):
            async with double.session.post(f"{double.url}/_double/{path}", json=wrong) as answer:
                assert answer.status == 400
        kinds = {kind: await double.control("GET", kind) for kind in ("lost", "foreign", "cancelled", "accepted")}
        assert [kinds[kind]["count"] for kind in kinds] == [1, 1, 1, 4]
    async with running(*prepared) as double:
        assert {kind: await double.control("GET", kind) for kind in kinds} == kinds
        assert (await double.control("GET", "totals"))["data"][0]["total"] == "100.5"


async def test_its_state_survives_a_restart(tmp_path: Path) -> None:
    """Events, identifiers, customers, meters and time are the same after a restart with the same state file."""
    prepared = (*PREPARED, "--state", str(tmp_path / "stripe.json"))
    async with running(*prepared) as double:
        (customer,) = double.customers
        await double.send("a", customer, "2")
        await double.control("POST", "clock/advance", seconds=3_600)
        accepted = await double.control("GET", "accepted")
        await double.control("POST", "rejections", event_name="api_request", code="archived_meter")
        assert await double.send("r", customer) == 200
        await double.control("POST", "clock/advance", seconds=10)
        rejected, reports = await double.control("GET", "rejected"), await double.control("GET", "reports")
        assert len(reports["data"]) == 1
    async with running(*prepared) as double:
        assert double.customers == [customer]
        assert await double.control("GET", "accepted") == accepted
        assert await double.send("a", customer, "2") == 400
        assert await double.control("GET", "rejected") == rejected
        assert await double.control("GET", "reports") == reports
        assert await double.send("r", customer) == 400
        assert await double.send("b", customer, "3") == 200
        assert (await double.control("GET", "totals"))["data"][0]["total"] == "5"
        assert (await double.control("GET", "clock"))["now"] > time.time() + 3_500


async def test_arguments_that_make_no_sense_end_it() -> None:
    """A wrong argument is named on stderr, with status 1."""
    for args, word in (
        (["--meter", "m:median"], "median"),
        (["--customer", "acme"], "FIELD=VALUE"),
        (["--reject", "x"], "NAME:CODE"),
        (["--set", "colour=red"], "colour"),
    ):
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *args,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 1
        assert word in errors.decode()
