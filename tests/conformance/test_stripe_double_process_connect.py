"""The double as a process of its own: customers by the million, accounts, OAuth, webhooks, keys and TLS."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import stripe
from stripe_process import COMMAND, Running, running
from webhook_receiver import WebhookReceiver

KEY = "sk_test_own"
BACK = "http://127.0.0.1:1/back"


async def ask(double: Running, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """One GET of the API with the double's key."""
    given = {"Authorization": f"Bearer {KEY}"} | headers
    async with double.session.get(f"{double.url}{path}", headers=given) as answer:
        return answer.status, await answer.json()


async def test_a_million_customers() -> None:
    """They are there by an argument or by a call, in no time, and are listed, found and counted as reads."""
    async with running("--meter", "api_request", "--customers", "1000000:account_id=user-{}") as double:
        more = await double.control("POST", "customers", count=10, field="account_id", value="other-{}")
        status, page = await ask(double, "/v1/customers?limit=20")
        assert (status, page["data"][0]["id"], page["data"][9]["id"]) == (200, more["last"], more["first"])
        assert page["data"][10]["metadata"] == {"account_id": "user-999999"}
        _, found = await ask(double, "/v1/customers/search?query=metadata['account_id']:'user-123456'")
        assert [one["metadata"] for one in found["data"]] == [{"account_id": "user-123456"}]
        assert await double.send("a", found["data"][0]["id"], "2") == 200
        (row,) = (await double.control("GET", "totals"))["data"]
        assert row["metadata"] == {"account_id": "user-123456"}
        reads = await double.control("GET", "reads")
        assert reads["last_30_days"] == [{"account": None, "livemode": False, "reads": 2}]


async def test_accounts_and_oauth() -> None:
    """Accounts are connected and disconnected, links approved and denied; codes and secrets are not shown."""
    args = ("--connect", "acct_a", "--client-id", "ca_test_mine", "--redirect-uri", BACK)
    async with running("--meter", "api_request", *args) as double:
        assert (await ask(double, "/v1/customers", **{"Stripe-Account": "acct_a"}))[0] == 200
        assert (await ask(double, "/v1/customers", **{"Stripe-Account": "acct_b"}))[0] == 403
        await double.control("POST", "connections", account="acct_b", scope="read_only")
        found = await double.control("GET", "connections")
        assert [(one["account"], one["scope"]) for one in found["data"]] == [
            ("acct_b", "read_only"),
            ("acct_a", "read_write"),
        ]
        await double.control("DELETE", "connections", account="acct_a")
        assert (await ask(double, "/v1/customers", **{"Stripe-Account": "acct_a"}))[0] == 403
        link = f"{double.url}/oauth/authorize?response_type=code&client_id=ca_test_mine&scope=read_write&state=s"
        denied = await double.control("POST", "oauth/deny", url=link)
        assert denied["location"].startswith(f"{BACK}?error=access_denied")
        approved = await double.control("POST", "oauth/approve", url=link, account="acct_c")
        code = approved["location"].partition("code=")[2].partition("&")[0]
        form = {"grant_type": "authorization_code", "code": code, "client_secret": KEY}
        async with double.session.post(f"{double.url}/oauth/token", data=form) as answer:
            assert (answer.status, (await answer.json())["stripe_user_id"]) == (200, "acct_c")
        calls = str((await double.control("GET", "calls"))["data"])
        assert code not in calls
        assert KEY not in calls
        await double.control("POST", "oauth", redirect_uris=["https://elsewhere.test/"])
        assert (await double.control("GET", "oauth"))["client_ids"] == ["ca_test_mine"]
        for path, body in (
            ("oauth/approve", {"url": link + f"&redirect_uri={BACK}"}),
            ("oauth", {"redirect_uris": "https://elsewhere.test/"}),
            ("connections", {}),
            ("customers", {"count": 2, "field": "x", "value": "y"}),
        ):
            async with double.session.post(f"{double.url}/_double/{path}", json=body) as answer:
                assert answer.status == 400


async def test_connections_survive_a_restart(tmp_path: Path) -> None:
    """Who was connected still is, and nobody else."""
    args = ("--meter", "api_request", "--state", str(tmp_path / "stripe.json"))
    async with running(*args, "--connect", "acct_a") as double:
        await double.control("POST", "connections", account="acct_b")
        await double.control("DELETE", "connections", account="acct_a")
    async with running(*args) as double:
        found = await double.control("GET", "connections")
        assert [one["account"] for one in found["data"]] == ["acct_b"]
        assert (await ask(double, "/v1/customers", **{"Stripe-Account": "acct_a"}))[0] == 403
        assert (await ask(double, "/v1/customers", **{"Stripe-Account": "acct_b"}))[0] == 200


async def test_keys() -> None:
    """They are rolled and revoked."""
    async with running("--meter", "api_request") as double:
        await double.control("POST", "keys/roll", old=KEY, new="sk_test_new")
        assert (await ask(double, "/v1/customers"))[1]["error"]["code"] == "api_key_expired"
        assert (await ask(double, "/v1/customers", Authorization="Bearer sk_test_new"))[0] == 200
        await double.control("DELETE", "keys", key="sk_test_new")
        assert (await ask(double, "/v1/customers", Authorization="Bearer sk_test_new"))[0] == 401


async def test_webhooks() -> None:
    """Endpoints are added by an argument or by a call; faults and deliveries are steered and read."""
    async with (
        WebhookReceiver() as receiver,
        running("--meter", "api_request", "--webhook", f"{receiver.url}#whsec_mine") as double,
    ):
        thin = await double.control("POST", "webhooks", url=receiver.url, kind="thin", secret="whsec_thin")
        assert (await double.control("GET", "webhooks"))["data"][1]["id"] == thin["id"]
        rule = await double.control("POST", "webhooks/faults", fault="duplicated", event="customer.created")
        assert rule["fired"] == 0
        headers = {"Authorization": f"Bearer {KEY}"}
        async with double.session.post(f"{double.url}/v1/customers", headers=headers) as answer:
            assert answer.status == 200
        async with asyncio.timeout(10):
            while (
                len((deliveries := await double.control("GET", "deliveries"))["data"]) < 2 or not deliveries["idle"]
            ):
                pass
        assert [(one["event_type"], one["status"], one["attempt"]) for one in deliveries["data"]] == [
            ("customer.created", 200, 1),
            ("customer.created", 200, 2),
        ]
        first = receiver.received[0]
        assert stripe.Webhook.construct_event(first.body, first.signature, "whsec_mine").type == "customer.created"
        assert (await double.control("GET", "webhooks/faults"))["data"][0]["fired"] == 1
        await double.control("DELETE", "webhooks/faults")
        assert (await double.control("GET", "webhooks/faults"))["data"] == []
        await double.control("DELETE", "webhooks", id=thin["id"])
        assert len((await double.control("GET", "webhooks"))["data"]) == 1


async def test_rate_limits() -> None:
    """They are a sandbox's by an argument, others by name, and changed while it runs; nonsense is refused."""
    async with running("--meter", "api_request", "--sandbox-limits", "--limit", "search=null") as double:
        limits = await double.control("GET", "limits")
        assert (limits["basic"], limits["search"], limits["all_basic"]) == (25, None, True)
        await double.control("POST", "limits", basic=0.001, all_basic=False)
        assert [(await ask(double, "/v1/customers"))[0] for _ in range(2)] == [200, 429]
        for wrong in ({"basic": "many"}, {"basic": -1}, {"all_basic": 1}, {"colour": 1}):
            async with double.session.post(f"{double.url}/_double/limits", json=wrong) as answer:
                assert answer.status == 400


async def test_tls() -> None:
    """With a certificate it speaks TLS, and prints the file of the authority to trust."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--certificate", "trusted", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        url = (await process.stdout.readline()).decode().strip()
        while not (line := (await process.stdout.readline()).decode()).startswith("authority "):
            pass
        trusting = ssl.create_default_context(cafile=line.split()[1])
        async with session.get(f"{url}/_double/clock", ssl=trusting) as answer:
            assert answer.status == 200
        process.terminate()
        assert await process.wait() == 0


async def test_what_makes_no_sense_is_named() -> None:
    """Arguments that cannot be end it with status 1."""
    for option, text, word in (
        ("--customers", "1000", "N:FIELD=PATTERN"),
        ("--customers", "many:account_id=x-{}", "N:FIELD=PATTERN"),
        ("--customers", "10:account_id=x", "`{}`"),
        ("--limit", "basic=many", "calls a second"),
    ):
        process = await asyncio.create_subprocess_exec(*COMMAND, option, text, stderr=asyncio.subprocess.PIPE)
        _, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 1
        assert word in errors.decode()
